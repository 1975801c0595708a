"""References, as BibTeX.

@misc{emhance,
  title   = {emhance: enhancement of cryo-EM density maps, true to the data},
  author  = {{The emhance developers}},
  year    = {2026},
  note    = {Computer program},
}

@article{SanchezGarcia2021,
  title   = {DeepEMhancer: a deep learning solution for cryo-EM volume post-processing},
  author  = {Sanchez-Garcia, Ruben and Gomez-Blanco, Josue and Cuervo, Ana and
             Carazo, Jose Maria and Sorzano, Carlos Oscar S. and Vargas, Javier},
  journal = {Communications Biology},
  volume  = {4},
  pages   = {874},
  year    = {2021},
  doi     = {10.1038/s42003-021-02399-1},
  url     = {https://doi.org/10.1038/s42003-021-02399-1},
}
"""
