// What the native functions share: whose turn it is, threads, and memory that is used again.

#ifndef CNNJAX_NN_NATIVE_RUNTIME_H_
#define CNNJAX_NN_NATIVE_RUNTIME_H_

#include <cstddef>

namespace cnnjax {

// While one lives, no other native function runs: XLA may call several at a time, and each uses all
// the threads there are. Also sets the number of OpenMP threads of the calling thread.
class Turn {
 public:
  Turn();
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
};

// The number of threads that a native function computes with.
int Threads();

// At least `bytes` of memory on a 64-byte boundary, kept from one call to the next. To be held by
// one caller at a time, while it has its turn.
class Workspace {
 public:
  explicit Workspace(size_t bytes);
  char* data() const { return data_; }

 private:
  char* data_;
};

}  // namespace cnnjax

#endif  // CNNJAX_NN_NATIVE_RUNTIME_H_
