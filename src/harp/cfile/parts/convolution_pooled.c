/* As convolve, and of every 2 x 2 results the largest. Only one channel of the larger map is there at a time. */
static void convolve_and_halve(const struct convolution* layer, const float* in, activation function, float slope,
                               float* channel, float* out) {
  struct cursor at = first_of(&layer->weights);
  int32_t output, y, x;
  for (output = 0; output < layer->outputs; output++) {
    convolve_channel(layer, &at, in, output, 0, channel);
    if (function) function(channel, layer->rows * layer->columns, slope);
    for (y = 0; y + 1 < layer->rows; y += 2) {
      for (x = 0; x + 1 < layer->columns; x += 2) {
        const float* corner = channel + y * layer->columns + x;
        *out++ = larger(larger(corner[0], corner[1]), larger(corner[layer->columns], corner[layer->columns + 1]));
      }
    }
  }
}
