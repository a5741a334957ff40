/* For each NAME: NAME.out, the results of the network NAME.harp for the five images in NAME.in. Prints what computed
 * them. For test_library.py, which runs it on an emulated processor. */
#include <harp.h>
#include <stdio.h>
#include <stdlib.h>

enum { IMAGES = 5 };

static FILE* opened(const char* name, const char* end, const char* how) {
  char path[4096];
  snprintf(path, sizeof path, "%s%s", name, end);
  return fopen(path, how);
}

static const char* compute(const char* name, int threads) {
  static char isa[32];
  char path[4096];
  harp_network* network;
  int shape[3], axes, result[HARP_MOST_AXES];
  snprintf(path, sizeof path, "%s.harp", name);
  if (harp_load_file(path, threads, &network) != HARP_OK) return NULL;
  harp_input(network, shape);
  if (harp_output(network, shape[1], shape[2], &axes, result) != HARP_OK) return NULL;
  size_t pixels = (size_t)IMAGES * shape[0] * shape[1] * shape[2], numbers = IMAGES, bytes;
  for (int axis = 0; axis < axes; ++axis) numbers *= result[axis];
  float *images = malloc(pixels * sizeof *images), *results = malloc(numbers * sizeof *results);
  FILE *in = opened(name, ".in", "rb"), *out = opened(name, ".out", "wb");
  if (!images || !results || !in || !out || fread(images, sizeof *images, pixels, in) != pixels) return NULL;
  harp_images given = {images, HARP_FLOATS, IMAGES, shape[1], shape[2]};
  if (harp_prepare(network, &given, 0, &bytes) != HARP_OK) return NULL;
  void* arena = malloc(bytes);
  if (!arena || harp_run(network, &given, results, arena, bytes) != HARP_OK) return NULL;
  fwrite(results, sizeof *results, numbers, out);
  snprintf(isa, sizeof isa, "%s", harp_isa(network));
  fclose(in), fclose(out), free(images), free(results), free(arena), harp_free(network);
  return isa;
}

int main(int count, char** names) {
  for (int i = 1; i < count; ++i) {
    const char* isa = compute(names[i], 1 + i % 2);
    if (!isa) return fprintf(stderr, "%s: %s\n", names[i], harp_error()), 1;
    puts(isa);
  }
  return 0;
}
