"""Result files and networks as pages: HTML, Markdown, tables and figures."""
