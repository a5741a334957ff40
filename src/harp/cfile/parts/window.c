struct window {
  int32_t channels;
  int32_t height, width; /* of a channel of the input */
  int32_t rows, columns; /* of a channel of the result */
  int32_t kernel_height, kernel_width;
  int32_t stride_down, stride_across;
  int32_t padding_down, padding_across;
};

/* Where a window begins and ends in one direction, without and with the padding. */
struct span {
  int32_t first, end, padded;
};

static struct span span_of(int32_t result, int32_t stride, int32_t kernel, int32_t padding, int32_t side) {
  const int32_t begin = result * stride - padding, reach = begin + kernel;
  struct span span;
  span.first = begin < 0 ? 0 : begin;
  span.end = reach < side ? reach : side;
  span.padded = (reach < side + padding ? reach : side + padding) - begin;
  return span;
}
