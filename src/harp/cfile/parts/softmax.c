/* Over the channels of each position. */
static void softmax(int32_t channels, int32_t plane, const float* in, float* out) {
  int32_t channel, i;
  for (i = 0; i < plane; i++) {
    float largest = in[i], sum = 0.0f;
    for (channel = 1; channel < channels; channel++) largest = larger(largest, in[channel * plane + i]);
    for (channel = 0; channel < channels; channel++) {
      out[channel * plane + i] = expf(in[channel * plane + i] - largest);
      sum += out[channel * plane + i];
    }
    for (channel = 0; channel < channels; channel++) out[channel * plane + i] /= sum;
  }
}
