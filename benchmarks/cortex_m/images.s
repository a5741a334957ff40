  .section .images, "a"
  .global images
  .balign 4
images:
  .incbin "images.bin"
