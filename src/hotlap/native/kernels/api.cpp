#include "api.h"

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "backends.h"
#include "layout.h"

using namespace hotlap;

namespace {

template <class Work>
void on_all_threads(Net& net, Work work) {
  std::vector<std::thread> others;
  for (int k = 1; k < net.threads; k++) others.emplace_back([&work, k] { work(k); });
  work(0);
  for (auto& other : others) other.join();
}

template <class Body>
int32_t guarded(Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return HL_NO_MEMORY;
  } catch (...) {
    return HL_BAD_ARGUMENT;
  }
}

// State: weights, both moments and the average, then whether the average has begun.
constexpr int kStates = 4;

}  // namespace

int32_t hl_abi(void) { return HL_ABI; }

const char* hl_message(int32_t code) {
  return code == HL_NO_MEMORY ? "not enough memory" : code == 0 ? "no error" : "layers or arguments do not fit together";
}

const char* hl_instruction_sets(void) {
  static const std::string names = [] {
    std::string all;
    for (const Backend* b : backends()) all += std::string(all.empty() ? "" : " ") + b->name;
    return all;
  }();
  return names.c_str();
}

int32_t hl_create(const char* instruction_set, int32_t threads, int32_t channels, int32_t height, int32_t width,
                  int32_t crop, int32_t classes, const hl_layer* layers, int32_t layer_count, const hl_rule* rules,
                  const float* mean, const float* std, float smoothing, hl_network** made) {
  return guarded([&]() -> int32_t {
    if (threads < 1 || threads > kMaxThreads || channels < 1 || channels > HL_MAX_CHANNELS || height < 1 || width < 1)
      return HL_BAD_ARGUMENT;
    auto network = std::make_unique<hl_network>();
    network->backend = backend_of(instruction_set);
    if (!network->backend) return HL_BAD_ARGUMENT;
    Net& net = network->net;
    net.lanes = network->backend->lanes, net.threads = threads, net.smoothing = smoothing;
    net.barrier.parties = threads;
    net.blank_is_zero = 1;
    for (int c = 0; c < channels; c++) {
      // In the order of PyTorch's own operations, so that the values are the same to the bit.
      for (int value = 0; value < 256; value++) net.table[c][value] = ((float)value / 255.0f - mean[c]) / std[c];
      net.blank_is_zero &= net.table[c][0] == 0;
    }
    if (!lay_out(*network, {channels, height, width, crop, classes}, layers, layer_count, rules))
      return HL_BAD_ARGUMENT;
    *made = network.release();
    return 0;
  });
}

void hl_destroy(hl_network* network) { delete network; }

int64_t hl_parameter_count(const hl_network* network) {
  int64_t count = 0;
  each_parameter(network->net, [&](long, long) { count++; });
  return count;
}

int32_t hl_set_parameters(hl_network* network, const float* values) {
  Net& net = network->net;
  std::memset(net.w, 0, sizeof(float) * net.params);
  std::memset(net.first, 0, sizeof(float) * net.params);
  std::memset(net.second, 0, sizeof(float) * net.params);
  for (int k = 0; k < net.threads; k++) std::memset(net.work[k].grad, 0, sizeof(float) * net.params);
  net.steps_done = 0, net.averaging = 0;
  each_parameter(net, [&](long flat, long place) { net.w[place] = values[flat]; });
  for (int k = 0; k < net.threads; k++) network->backend->derive(net, k);
  return 0;
}

int32_t hl_get_parameters(const hl_network* network, float* values) {
  each_parameter(network->net, [&](long flat, long place) { values[flat] = network->net.w[place]; });
  return 0;
}

int32_t hl_get_gradients(const hl_network* network, float* values) {
  const Net& net = network->net;
  each_parameter(net, [&](long flat, long place) {
    double sum = 0;
    for (int k = 0; k < net.threads; k++) sum += net.work[k].grad[place];
    values[flat] = (float)sum;
  });
  return 0;
}

int64_t hl_state_count(const hl_network* network) { return kStates * network->net.params + 1; }

int32_t hl_get_state(const hl_network* network, float* values, int64_t* steps) {
  const Net& net = network->net;
  const float* parts[kStates] = {net.w, net.first, net.second, net.average};
  for (const float* part : parts) values = std::copy(part, part + net.params, values);
  *values = (float)net.averaging;
  *steps = net.steps_done;
  return 0;
}

int32_t hl_set_state(hl_network* network, const float* values, int64_t steps) {
  Net& net = network->net;
  float* parts[kStates] = {net.w, net.first, net.second, net.average};
  for (float* part : parts) {
    std::copy(values, values + net.params, part);
    values += net.params;
  }
  net.averaging = *values != 0;
  net.steps_done = steps;
  for (int k = 0; k < net.threads; k++) network->backend->derive(net, k);
  return 0;
}

int32_t hl_train(hl_network* network, const uint8_t* images, const int32_t* labels, const int64_t* order,
                 const int16_t* moves, const int64_t* starts, const float* rates, const hl_average* average,
                 int64_t steps, float* losses) {
  return guarded([&]() -> int32_t {
    Net& net = network->net;
    const TrainJob job{images, labels, order, moves, starts, rates, average, (long)steps, losses, 0};
    on_all_threads(net, [&](int k) { network->backend->train(net, job, k); });
    for (int64_t s = 0; average && s < steps; s++) net.averaging |= average[s].kind != 0;
    return 0;
  });
}

int32_t hl_gradients(hl_network* network, const uint8_t* images, const int32_t* labels, const int64_t* order,
                     const int16_t* moves, int64_t count, float* loss) {
  return guarded([&]() -> int32_t {
    Net& net = network->net;
    for (int k = 0; k < net.threads; k++) std::memset(net.work[k].grad, 0, sizeof(float) * net.params);
    const int64_t starts[2] = {0, count};
    const TrainJob job{images, labels, order, moves, starts, nullptr, nullptr, 1, loss, 1};
    on_all_threads(net, [&](int k) { network->backend->train(net, job, k); });
    return 0;
  });
}

int32_t hl_begin_average(hl_network* network) {
  Net& net = network->net;
  std::copy(net.w, net.w + net.params, net.average);
  net.averaging = 1;
  return 0;
}

int32_t hl_finish(hl_network* network) {
  Net& net = network->net;
  if (!net.averaging) return 0;
  std::copy(net.average, net.average + net.params, net.w);
  for (int k = 0; k < net.threads; k++) network->backend->derive(net, k);
  return 0;
}

int32_t hl_logits(hl_network* network, const uint8_t* images, const int64_t* which, int64_t count,
                  const hl_view* views, int32_t view_count, int32_t add, float* out) {
  return guarded([&]() -> int32_t {
    Net& net = network->net;
    const LogitsJob job{images, which, (long)count, views, view_count, out, add};
    on_all_threads(net, [&](int k) { network->backend->logits(net, job, k); });
    return 0;
  });
}
