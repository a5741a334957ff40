struct convolution {
  struct weights weights;
  int32_t height, width;             /* of a channel of the input */
  int32_t rows, columns;             /* of a channel of the result */
  int32_t outputs;                   /* channels of the result */
  int32_t inputs, outputs_per_group; /* of one group */
  int32_t kernel_height, kernel_width;
  int32_t stride_down, stride_across;
  int32_t padding_down, padding_across;
  int32_t dilation_down, dilation_across;
};

/* The first and the end of those results whose pixel, at result * stride + shift, is inside of the image. */
static int32_t first_inside(int32_t shift, int32_t stride) { return shift < 0 ? (-shift + stride - 1) / stride : 0; }

static int32_t end_inside(int32_t shift, int32_t stride, int32_t side, int32_t results) {
  const int32_t last = side - 1 - shift;
  const int32_t end = last < 0 ? 0 : last / stride + 1;
  return end < results ? end : results;
}

/* Add one weight times its input channel, shifted, to a channel of the result. */
static void add_shifted(const struct convolution* layer, const float* in, int32_t place, float weight, float* out) {
  const int32_t down = place / layer->kernel_width * layer->dilation_down - layer->padding_down;
  const int32_t across = place % layer->kernel_width * layer->dilation_across - layer->padding_across;
  const int32_t bottom = end_inside(down, layer->stride_down, layer->height, layer->rows);
  const int32_t left = first_inside(across, layer->stride_across);
  const int32_t right = end_inside(across, layer->stride_across, layer->width, layer->columns);
  int32_t y, x;
  for (y = first_inside(down, layer->stride_down); y < bottom; y++) {
    const float* from = in + (y * layer->stride_down + down) * layer->width + left * layer->stride_across + across;
    float* to = out + y * layer->columns;
    for (x = left; x < right; x++, from += layer->stride_across) to[x] += weight * *from;
  }
}

/* One channel of the result. What is there already is kept and added to, if it is a residual. */
static void convolve_channel(const struct convolution* layer, struct cursor* at, const float* in, int32_t output,
                             int residual, float* out) {
  const int32_t window = layer->kernel_height * layer->kernel_width;
  const uint32_t row = (uint32_t)(layer->inputs * window), begin = (uint32_t)output * row;
  const int32_t group = output / layer->outputs_per_group;
  const float bias = layer->weights.bias[output];
  int32_t i;
  for (i = 0; i < layer->rows * layer->columns; i++) out[i] = residual ? out[i] + bias : bias;
  for (; at->position < begin + row; at->value++, advance(at)) {
    const int32_t column = (int32_t)(at->position - begin);
    const int32_t channel = group * layer->inputs + column / window;
    add_shifted(layer, in + channel * layer->height * layer->width, column % window,
                weight_of(&layer->weights, *at->value, output), out);
  }
}

static void convolve(const struct convolution* layer, const float* in, int residual, activation function, float slope,
                     float* out) {
  const int32_t plane = layer->rows * layer->columns;
  struct cursor at = first_of(&layer->weights);
  int32_t output;
  for (output = 0; output < layer->outputs; output++) {
    convolve_channel(layer, &at, in, output, residual, out + output * plane);
    if (function) function(out + output * plane, plane, slope);
  }
}
