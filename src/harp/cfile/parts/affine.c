static void affine(const float* scale, const float* shift, int32_t channels, int32_t plane, const float* in,
                   float* out) {
  int32_t channel, i;
  for (channel = 0; channel < channels; channel++) {
    for (i = 0; i < plane; i++) *out++ = *in++ * scale[channel] + shift[channel];
  }
}
