// The types of elements that the native functions know: float32, and bfloat16 as its 16 bits.

#ifndef CNNJAX_NN_NATIVE_ELEMENTS_H_
#define CNNJAX_NN_NATIVE_ELEMENTS_H_

#include <cstdint>
#include <cstring>

#include "runtime.h"
#include "xla/ffi/api/ffi.h"

namespace cnnjax {

inline float Number(float value) { return value; }
inline float Number(uint16_t bfloat16) {  // the upper half of a float32
  const uint32_t bits = static_cast<uint32_t>(bfloat16) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Calls `run`, when it is its turn, with a null pointer of the C++ type of the elements.
template <typename Run>
xla::ffi::Error ForType(xla::ffi::DataType type, Run run) {
  if (type != xla::ffi::F32 && type != xla::ffi::BF16) {
    return xla::ffi::Error::InvalidArgument("neither float32 nor bfloat16");
  }
  const Turn turn;
  if (type == xla::ffi::F32) {
    run(static_cast<float*>(nullptr));
  } else {
    run(static_cast<uint16_t*>(nullptr));
  }
  return xla::ffi::Error::Success();
}

template <typename T>
T* Data(xla::ffi::AnyBuffer buffer, T*) {
  return static_cast<T*>(buffer.untyped_data());
}

}  // namespace cnnjax

#endif  // CNNJAX_NN_NATIVE_ELEMENTS_H_
