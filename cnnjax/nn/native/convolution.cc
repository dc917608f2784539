// Convolution by oneDNN behind XLA's foreign function interface: forward, gradient to the input and
// gradient to the kernel. Activations are NHWC and kernels HWIO, dense, float32 or bfloat16.

#include <array>
#include <map>
#include <memory>
#include <mutex>

#include "oneapi/dnnl/dnnl.hpp"
#include "runtime.h"
#include "xla/ffi/api/ffi.h"

namespace cnnjax {
namespace {

namespace ffi = xla::ffi;
using dnnl::memory;

enum Role : int64_t { kOutput = 0, kInput = 1, kKernel = 2 };  // what is computed

// role, type, N, H, W, I, H', W', O, height, width of the kernel, and the window's nine numbers:
// strides, dilation, padding before and after for height and for width, groups.
constexpr int kWindow = 11;
constexpr int kNumbers = kWindow + 9;
using Key = std::array<int64_t, kNumbers>;

// A convolution ready to run. Kernels are reordered between HWIO and what oneDNN prefers.
struct Plan {
  memory::desc input, kernel, output, preferred, scratchpad;
  dnnl::primitive convolution, reorder;
  bool reorders;
};

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::desc KernelDesc(const Key& key, memory::data_type type) {
  const int64_t groups = key[kWindow + 8], inputs = key[5] / groups, outputs = key[8] / groups;
  const int64_t height = key[9], width = key[10], all = key[8];
  return memory::desc({groups, outputs, inputs, height, width}, type,
                      {outputs, 1, all, width * inputs * all, inputs * all});
}

std::unique_ptr<Plan> Make(const Key& key) {
  const auto type = static_cast<memory::data_type>(key[1]);
  auto plan = std::make_unique<Plan>();
  const auto nhwc = memory::format_tag::nhwc;
  plan->input = memory::desc({key[2], key[5], key[3], key[4]}, type, nhwc);
  plan->output = memory::desc({key[2], key[8], key[6], key[7]}, type, nhwc);
  plan->kernel = KernelDesc(key, type);
  const memory::desc any(plan->kernel.get_dims(), type, memory::format_tag::any);
  const int64_t* window = key.data() + kWindow;
  const memory::dims strides{window[0], window[1]};
  const memory::dims dilation{window[2] - 1, window[3] - 1};  // oneDNN counts the gaps
  const memory::dims before{window[4], window[6]}, after{window[5], window[7]};
  const auto direct = dnnl::algorithm::convolution_direct;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::engine& engine = Engine();
  const dnnl::convolution_forward::primitive_desc forward(
      engine, dnnl::prop_kind::forward_training, direct, plan->input, any, plan->output, strides,
      dilation, before, after, attributes);
  if (key[0] == kOutput) {
    plan->preferred = forward.weights_desc();
    plan->scratchpad = forward.scratchpad_desc();
    plan->convolution = dnnl::convolution_forward(forward);
  } else if (key[0] == kInput) {
    const dnnl::convolution_backward_data::primitive_desc backward(
        engine, direct, plan->input, any, plan->output, strides, dilation, before, after, forward,
        attributes);
    plan->preferred = backward.weights_desc();
    plan->scratchpad = backward.scratchpad_desc();
    plan->convolution = dnnl::convolution_backward_data(backward);
  } else {
    const dnnl::convolution_backward_weights::primitive_desc backward(
        engine, direct, plan->input, any, plan->output, strides, dilation, before, after, forward,
        attributes);
    plan->preferred = backward.diff_weights_desc();
    plan->scratchpad = backward.scratchpad_desc();
    plan->convolution = dnnl::convolution_backward_weights(backward);
  }
  plan->reorders = plan->preferred != plan->kernel;
  if (plan->reorders) {
    const bool out = key[0] == kKernel;
    plan->reorder = dnnl::reorder(dnnl::reorder::primitive_desc(
        engine, out ? plan->preferred : plan->kernel, engine,
        out ? plan->kernel : plan->preferred));
  }
  return plan;
}

// The plan of a convolution, made once. Throws dnnl::error for what oneDNN cannot do.
const Plan& Get(const Key& key) {
  static std::mutex mutex;
  static auto& plans = *new std::map<Key, std::unique_ptr<Plan>>();
  std::lock_guard<std::mutex> guard(mutex);
  auto& plan = plans[key];
  if (!plan) plan = Make(key);
  return *plan;
}

void Run(const Plan& plan, Role role, void* input, void* kernel, void* output) {
  const dnnl::engine& engine = Engine();
  dnnl::stream stream(engine);
  const size_t scratch = (plan.scratchpad.get_size() + 63) / 64 * 64;
  Workspace workspace(scratch + (plan.reorders ? plan.preferred.get_size() : 0));
  const memory user(plan.kernel, engine, kernel);
  memory kernels = user;
  if (plan.reorders) {
    kernels = memory(plan.preferred, engine, workspace.data() + scratch);
    if (role != kKernel) {
      plan.reorder.execute(stream, {{DNNL_ARG_FROM, user}, {DNNL_ARG_TO, kernels}});
    }
  }
  plan.convolution.execute(
      stream, {{role == kInput ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC,
                memory(plan.input, engine, input)},
               {role == kKernel ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, kernels},
               {role == kOutput ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST,
                memory(plan.output, engine, output)},
               {DNNL_ARG_SCRATCHPAD, memory(plan.scratchpad, engine, workspace.data())}});
  if (plan.reorders && role == kKernel) {
    plan.reorder.execute(stream, {{DNNL_ARG_FROM, kernels}, {DNNL_ARG_TO, user}});
  }
  stream.wait();
}

// Operands are the two of (input, kernel, output) that are not computed, in that order.
ffi::Error Convolution(ffi::AnyBuffer first, ffi::AnyBuffer second,
                       ffi::Result<ffi::AnyBuffer> result, ffi::Span<const int64_t> numbers) {
  Key key;
  if (numbers.size() != key.size()) {
    return ffi::Error::InvalidArgument("convolution: wrong number of numbers");
  }
  std::copy(numbers.begin(), numbers.end(), key.begin());
  const Role role = static_cast<Role>(key[0]);
  void* computed = result->untyped_data();
  void* one = first.untyped_data();
  void* two = second.untyped_data();
  try {
    const Turn turn;
    const Plan& plan = Get(key);
    if (role == kOutput) Run(plan, role, one, two, computed);
    if (role == kInput) Run(plan, role, computed, one, two);
    if (role == kKernel) Run(plan, role, one, computed, two);
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("convolution: ") + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(CnnjaxConvolution, Convolution,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("numbers"));

// Whether oneDNN has a convolution of these numbers on this processor.
extern "C" int cnnjax_supports(const int64_t* numbers) {
  Key key;
  std::copy(numbers, numbers + kNumbers, key.begin());
  try {
    const Turn turn;
    Get(key);
    return 1;
  } catch (const std::exception&) {
    return 0;
  }
}

}  // namespace cnnjax
