"""Operations of NVIDIA's libraries, cuBLASLt and cuDNN, in the place of kernels of our own where they are measured to be faster."""
