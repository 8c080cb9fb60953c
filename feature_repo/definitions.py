"""Every Feast object as a module attribute, which is where `feast apply` looks for them."""

from configs.load import load_environment, load_project
from feature_repo.objects import build_objects

for _object in build_objects(load_project(), load_environment()):
    globals()[f"{type(_object).__name__}_{_object.name}"] = _object
