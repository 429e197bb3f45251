"""A small values file becomes a kustomize overlay: ``values`` says what, ``settings`` and ``overlay`` what follows."""
