"""What is written beside a model that is packaged."""

from mlp.core.models import package


def test_an_image_bears_the_models_name_as_it_is() -> None:
    made = package.texts("ü€日本", "3", "python:3.11-slim", {}, {}, {"digest": "sha256:1"})
    assert 'mlp.model="ü€日本" mlp.version="3"' in made["Containerfile"]
