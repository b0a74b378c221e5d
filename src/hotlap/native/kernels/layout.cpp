#include "layout.h"

#include <algorithm>
#include <cstring>

float* hl_network::floats(long count) {
  constexpr long kLine = 16;
  const long room = count + 2 * kLine + 64;
  memory.push_back(std::make_unique<float[]>(room));
  float* start = memory.back().get();
  const auto misplaced = reinterpret_cast<uintptr_t>(start) / sizeof(float) % kLine;
  return start + (misplaced ? kLine - misplaced : 0);
}

namespace hotlap {
namespace {

int padded(int count, int lanes) { return (count + lanes - 1) / lanes * lanes; }

bool lay_out_convolution(const Net& net, Layer& l, const hl_layer& asked, int margin_after) {
  l.kernel = asked.kernel, l.pad = asked.pad, l.pool = asked.pool, l.pool_kind = asked.pool_kind;
  if (l.kernel < 1 || l.kernel > 7 || l.pad < 0 || l.pad >= l.kernel || l.pool < 1 || l.pool > 5) return false;
  l.out_h = (l.in_h + 2 * l.pad - l.kernel + 1) / l.pool;
  l.out_w = (l.in_w + 2 * l.pad - l.kernel + 1) / l.pool;
  if (l.in_h + 2 * l.pad < l.kernel || l.in_w + 2 * l.pad < l.kernel || l.out_h < 1 || l.out_w < 1) return false;
  l.in_row = (long)(l.in_w + 2 * l.pad) * l.in_cp;
  l.in_size = (l.in_h + 2 * l.pad) * l.in_row;
  l.out_margin = margin_after;
  l.out_row = (long)(l.out_w + 2 * margin_after) * l.out_cp;
  l.out_size = (l.out_h + 2 * margin_after) * l.out_row;
  l.taps = l.kernel * l.in_cp;
  l.row_lanes = padded(l.taps, net.lanes);
  l.winograd = l.kernel == 3 && l.pool == 2 && l.in_cp % net.lanes == 0;
  return true;
}

void lay_out_linear(Layer& l) {
  l.in_row = l.in_size = l.in_cp;
  l.out_row = l.out_size = l.out_cp;
  l.out_h = l.out_w = 1;
}

void lay_out_matrix(hl_network& made, Tensor& t, int rows, int columns_in_use) {
  // Of a convolution the rows are output channels; of a linear layer, inputs. The result is the same.
  t.transposed = rows < columns_in_use;
  t.tall = (int)(t.transposed ? t.cols : t.rows);
  t.narrow = (int)(t.transposed ? t.rows : t.cols);
  t.narrow_p = padded(t.narrow, made.net.lanes);
  for (float** m : {&t.x, &t.out}) *m = made.floats((long)t.tall * t.narrow_p);
  for (float*& m : t.small) m = made.floats((long)t.narrow_p * t.narrow_p);
}

// Small matrices are worked on by one thread each, since waiting for each other would take longer than the work.
void share_matrices(Net& net) {
  constexpr double kAlone = 2e6;
  double load[kMaxThreads] = {};
  std::vector<std::pair<double, Tensor*>> small;
  for (int i = 0; i < net.tensors; i++) {
    Tensor& t = net.tensor[i];
    if (!t.matrix) continue;
    const double narrow = t.narrow_p, work = narrow * narrow * (2.0 * t.tall + 4.0 * t.rule.steps * narrow);
    t.owner = -1;
    if (work < kAlone || net.threads == 1) small.emplace_back(work, &t);
  }
  std::stable_sort(small.begin(), small.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  for (auto& [work, tensor] : small) {
    tensor->owner = (int)(std::min_element(load, load + net.threads) - load);
    load[tensor->owner] += work;
  }
}

void add_tensor(Net& net, long rows, long cols, int fan_out, const hl_rule& rule) {
  Tensor& t = net.tensor[net.tensors++];
  t.offset = net.params;
  t.rows = rows, t.cols = cols, t.size = rows * cols;
  t.fan_out = fan_out;
  t.rule = rule;
  net.params += t.size;
}

void allocate(hl_network& made) {
  Net& net = made.net;
  for (float** all : {&net.w, &net.first, &net.second, &net.direction, &net.average}) *all = made.floats(net.params);
  for (int i = 0; i < net.layers; i++) {
    Layer& l = net.layer[i];
    const long fields_in = l.kind != HL_CONV ? l.in_cp : l.winograd ? 16 * l.in_cp : (long)l.kernel * l.taps;
    l.derived = made.floats(fields_in * l.out_cp);
    if (l.kind != HL_CONV) continue;
    float* mask = made.floats(l.row_lanes);
    for (int k = 0; k < l.taps; k++) mask[k] = k % l.in_cp < l.in_c;
    l.lane_mask = mask;
    auto* window = reinterpret_cast<Window*>(made.floats(3L * l.out_h * l.out_w));
    for (int y = 0; y < l.out_h; y++)
      for (int x = 0; x < l.out_w; x++)
        window[y * l.out_w + x] = {(int32_t)(y * l.pool * l.in_row + (long)x * l.pool * l.in_cp),
                                   (int32_t)((y + l.out_margin) * l.out_row + (long)(x + l.out_margin) * l.out_cp),
                                   (y * l.out_w + x) * l.out_cp};
    l.window = window;
    auto* apart = reinterpret_cast<int32_t*>(made.floats((long)l.out_h * l.out_w));
    l.apart = apart;
    for (int first = 0; first < 2; first++)
      for (int y = 0; y < l.out_h; y++)
        for (int x = first; x < l.out_w; x += 2) *apart++ = y * l.out_w + x;
  }
  for (int k = 0; k < net.threads; k++) {
    Workspace& work = net.work[k];
    work.grad = made.floats(net.params);
    long capacity = 0, channels = 0, tiles = 0, products = 0;
    for (int i = 0; i < net.layers; i++) {
      const Layer& l = net.layer[i];
      work.act[i] = made.floats(kChunk * l.in_size);
      if (i > 0) work.delta[i] = made.floats(kChunk * l.in_size);
      if (l.kind != HL_CONV) continue;
      const long fields = (long)l.out_h * l.out_w;
      work.chosen[i] = reinterpret_cast<int32_t*>(made.floats(l.pool > 1 ? kChunk * fields * l.out_cp : 0));
      capacity = std::max(capacity, kGroup * fields * (l.pool_kind == HL_AVERAGE ? l.pool * l.pool : 1) + net.lanes);
      channels = std::max<long>(channels, l.out_cp);
      if (l.winograd) tiles = std::max<long>(tiles, l.in_cp), products = std::max<long>(products, l.out_cp);
    }
    work.tiles = made.floats(16L * kTiles * tiles);
    work.products = made.floats(16L * kTiles * products);
    const Layer& last = net.layer[net.layers - 1];
    work.act[net.layers] = made.floats(kChunk * last.out_size);
    work.delta[net.layers] = made.floats(kChunk * last.out_size);
    const Layer& first = net.layer[0];
    work.windows = reinterpret_cast<int32_t*>(made.floats((long)kChunk * first.out_h * first.out_w));
    work.window_count = reinterpret_cast<int*>(made.floats(kChunk));
    work.lists.capacity = capacity;
    work.lists.value = made.floats(capacity * channels);
    work.lists.place = reinterpret_cast<int32_t*>(made.floats(capacity * channels));
    work.lists.count = reinterpret_cast<int*>(made.floats(channels));
  }
}

}  // namespace

bool lay_out(hl_network& made, const Shape& shape, const hl_layer* layers, int count, const hl_rule* rules) {
  Net& net = made.net;
  if (count < 1 || count > kMaxLayers || layers[count - 1].kind != HL_LINEAR) return false;
  if (shape.crop > shape.height || shape.crop > shape.width) return false;
  net.layers = count, net.classes = shape.classes;
  net.image_c = shape.channels, net.image_h = shape.height, net.image_w = shape.width;
  net.crop_h = shape.crop ? shape.crop : shape.height;
  net.crop_w = shape.crop ? shape.crop : shape.width;
  net.crop_y = (shape.height - net.crop_h) / 2, net.crop_x = (shape.width - net.crop_w) / 2;
  if (net.crop_w > 1024) return false;
  int c = shape.channels, cp = shape.channels, h = net.crop_h, w = net.crop_w;
  for (int i = 0; i < count; i++) {
    Layer& l = net.layer[i];
    const hl_layer& asked = layers[i];
    if (asked.out < 1 || (asked.kind != HL_CONV && asked.kind != HL_LINEAR)) return false;
    if (asked.kind == HL_CONV && i > 0 && layers[i - 1].kind == HL_LINEAR) return false;
    l.kind = asked.kind, l.relu = asked.relu, l.relu_first = asked.relu_first;
    l.in_c = c, l.in_h = h, l.in_w = w;
    l.out_c = asked.out, l.out_cp = padded(asked.out, net.lanes);
    if (l.kind == HL_CONV) {
      l.in_cp = cp;
      const bool more = layers[i + 1].kind == HL_CONV;
      if (!lay_out_convolution(net, l, asked, more ? layers[i + 1].pad : 0)) return false;
    } else {
      // The first linear layer reads what is before it as it lies there. Images themselves have no padded channels.
      l.in_cp = i > 0 ? cp * h * w : padded(c * h * w, net.lanes);
      if (i == 0) return false;
      lay_out_linear(l);
    }
    c = l.out_c, cp = l.out_cp, h = l.out_h, w = l.out_w;
    const bool conv = l.kind == HL_CONV;
    const long rows = conv ? l.out_c : l.in_cp, cols = conv ? (long)l.kernel * l.row_lanes : l.out_cp;
    l.weight = net.params;
    add_tensor(net, rows, cols, l.out_c, rules[2 * i]);
    l.bias = net.params;
    add_tensor(net, 1, l.out_cp, l.out_c, rules[2 * i + 1]);
  }
  if (c != shape.classes) return false;
  Layer& first = net.layer[0];
  // Marks of ink are kept in one word a row.
  first.skip_blank = net.blank_is_zero && net.crop_w + 2 * first.pad <= 64 && net.crop_h <= 64;
  allocate(made);
  for (int i = 0; i < net.tensors; i++) {
    Tensor& t = net.tensor[i];
    t.matrix = t.rule.kind == HL_MUON;
    if (!t.matrix) continue;
    const Layer& l = net.layer[i / 2];
    if (i % 2) return false;
    if (l.kind == HL_CONV) lay_out_matrix(made, t, l.out_c, l.in_c * l.kernel * l.kernel);
    // Rows of a linear layer are its inputs.
    else lay_out_matrix(made, t, l.in_c * l.in_h * l.in_w, l.out_c);
  }
  share_matrices(net);
  return true;
}

}  // namespace hotlap
