/* Classifies an image of raw bytes with libharp: classify net.harp image.rgb
 *
 *   cc classify.c -lharp -o classify */
#include <harp.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, harp_error());
  return 1;
}

int main(int count, char** words) {
  harp_network* network;
  if (count != 3) return fprintf(stderr, "usage: classify net.harp image.rgb\n"), 2;
  if (harp_load_file(words[1], 1, &network) != HARP_OK) return failed(words[1]);

  int shape[3], axes, result[HARP_MOST_AXES];
  harp_input(network, shape); /* channels, height, width */
  if (harp_output(network, shape[1], shape[2], &axes, result) != HARP_OK || axes != 1) return failed("no classifier");

  /* Memory for one image, taken once. */
  size_t pixels = (size_t)shape[0] * shape[1] * shape[2], arena_bytes;
  harp_images images = {NULL, HARP_BYTES, 1, shape[1], shape[2]};
  if (harp_prepare(network, &images, 0, &arena_bytes) != HARP_OK) return failed("prepare");
  unsigned char* bytes = malloc(pixels);
  float* logits = malloc(result[0] * sizeof(float));
  void* arena = malloc(arena_bytes);

  FILE* file = fopen(words[2], "rb");
  if (!file || !bytes || !logits || !arena || fread(bytes, 1, pixels, file) != pixels) return perror(words[2]), 1;
  fclose(file);
  images.data = bytes;
  if (harp_run(network, &images, logits, arena, arena_bytes) != HARP_OK) return failed("run");

  int best = 0;
  for (int i = 1; i < result[0]; ++i)
    if (logits[i] > logits[best]) best = i;
  printf("%d %s %.9g\n", best, harp_classes(network) ? harp_class(network, best) : "", logits[best]);
  free(bytes), free(logits), free(arena);
  harp_free(network);
  return 0;
}
