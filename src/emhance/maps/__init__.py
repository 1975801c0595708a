"""What a map is: values and geometry, reading and writing, Fourier space, masks, voxel sizes."""
