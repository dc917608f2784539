#include "runtime.h"

#include <omp.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <new>

namespace cnnjax {
namespace {

std::mutex& Mutex() {
  static std::mutex& mutex = *new std::mutex();
  return mutex;
}

std::atomic<int> threads{1};

// A forked process has none of its parent's threads: there every call runs on its own thread.
[[maybe_unused]] const int registered = pthread_atfork([] { Mutex().lock(); },
                                                       [] { Mutex().unlock(); },
                                                       [] {
                                                         Mutex().unlock();
                                                         threads = 1;
                                                       });

}  // namespace

Turn::Turn() {
  Mutex().lock();
  omp_set_dynamic(0);
  omp_set_num_threads(threads);
}

Turn::~Turn() { Mutex().unlock(); }

Workspace::Workspace(size_t bytes) {
  static char* kept = nullptr;
  static size_t size = 0;
  if (bytes > size) {
    std::free(kept);
    size = (bytes + 63) / 64 * 64;
    kept = static_cast<char*>(std::aligned_alloc(64, size));
    if (!kept) {
      size = 0;
      throw std::bad_alloc();
    }
  }
  data_ = kept;
}

int Threads() { return threads; }

extern "C" void cnnjax_set_threads(int count) { threads = count < 1 ? 1 : count; }

}  // namespace cnnjax
