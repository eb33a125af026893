"""Region features as other repositories write them: each layout is read photo by photo."""
