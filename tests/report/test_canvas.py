"""What all plots of a report share."""

from matplotlib.figure import Figure

from cnnjax.report import canvas


def test_large_numbers_on_an_axis_have_prefixes():
    """Not an offset at the end of the axis, which names would lie over."""
    figure = Figure((4, 2))
    figure.add_subplot().plot([1e7, 3e7], [0.1, 0.2])
    svg = canvas.draw(figure).svg
    assert "20M" in svg
    assert "1e7" not in svg
    assert "0.15" in svg
