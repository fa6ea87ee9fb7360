"""Networks and weights of other libraries: loaded, resized, standardised, refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from fewlabels.errors import ConfigError, DownloadError, UnknownNameError
from fewlabels.networks import network_settings
from fewlabels.networks.alexnet import AlexNetConfig
from fewlabels.networks.pretrained import PretrainedConfig
from fewlabels.networks.resnet import ResNetConfig
from fewlabels.networks.vgg import VGGConfig
from fewlabels.networks.weights import load_initial, load_state, read_weights

torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")

NAMES = [
    "timm:resnet10t",
    "timm:vit_tiny_patch16_224",
    "timm:deit_tiny_distilled_patch16_224",
    "torchvision:resnet18",
    "torchvision:squeezenet1_1",
    "torchvision:googlenet",
    "torchvision:vit_b_16",
]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pretrained(model: str, **rest):
    return PretrainedConfig(model=model, weights="none", **rest)


CLASSIC = {
    "alexnet": (AlexNetConfig(), "alexnet"),
    "vgg11": (VGGConfig(depth=11), "vgg11"),
    "vgg13 with batch norm": (VGGConfig(depth=13, batch_norm=True), "vgg13_bn"),
    "resnet18": (ResNetConfig(depth=18), "resnet18"),
    "resnet50": (ResNetConfig(depth=50), "resnet50"),
}


@pytest.mark.parametrize("name", CLASSIC)
def test_our_classic_networks_take_torchvisions_weights_unchanged(name: str) -> None:
    config, theirs = CLASSIC[name]
    torch.manual_seed(0)
    whole = torchvision.models.get_model(theirs, weights=None).eval()
    for module in whole.modules():  # norms that do something
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=gen())
            module.running_var.uniform_(0.5, 2, generator=gen())
    encoder = config.build((3, 96, 96), gen()).eval()
    load_state(encoder, whole.state_dict(), theirs)
    images = torch.rand(2, 3, 96, 96, generator=gen(1))
    head = whole.get_submodule(*encoder.head_keys)
    with torch.no_grad():
        torch.testing.assert_close(head(encoder(images)), whole(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_other_libraries_networks_keep_the_encoder_contract(name: str) -> None:
    state = torch.random.get_rng_state()
    first = pretrained(name).build((1, 28, 28), gen()).eval()
    assert torch.equal(state, torch.random.get_rng_state())
    same = pretrained(name).build((1, 28, 28), gen()).eval()
    images = torch.rand(2, 1, 28, 28, generator=gen())
    with torch.no_grad():
        features = first(images)
        assert features.shape == (2, first.num_features)
        assert torch.equal(features, same(images))
        assert len(first.forward_features(images)) == 2
    staged = [p for stage in first.stages() for m in stage for p in m.parameters()]
    assert len(staged) == len(set(staged))
    assert set(staged) == set(first.parameters())
    assert len(first.stages()) > 3


def test_images_are_resized_and_standardised_as_the_weights_were_trained() -> None:
    encoder = pretrained("torchvision:resnet18").build((1, 28, 28), gen()).eval()
    images = torch.rand(2, 1, 28, 28, generator=gen())
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    enlarged = F.interpolate(images, size=(224, 224), mode="bilinear", antialias=True)
    expected = torchvision.transforms.functional.normalize(
        enlarged.expand(-1, 3, -1, -1), transform.mean, transform.std
    )
    torch.testing.assert_close(encoder._prepared(images), expected, atol=1e-5, rtol=1e-4)
    # Statistics of other images do not change what the weights expect.
    encoder.standardise.set_statistics(torch.rand(3, 1, 1), torch.rand(3))
    torch.testing.assert_close(encoder._prepared(images), expected, atol=1e-5, rtol=1e-4)


def test_images_are_resized_as_timm_would() -> None:
    """timm's own pipeline for the same network, with the whole image and not its middle."""
    name = "vit_tiny_patch16_224"
    facts = timm.data.resolve_data_config({}, model=timm.create_model(name, pretrained=False))
    assert facts["interpolation"] == "bicubic"
    # Smooth and grey enough that nothing is cut off on the way, where Pillow does it twice.
    few = 0.3 + 0.4 * torch.rand(1, 3, 16, 16, generator=gen())
    pixels = (255 * F.interpolate(few, (64, 64), mode="bilinear")[0]).to(torch.uint8)
    image = torchvision.transforms.functional.to_pil_image(pixels)
    expected = timm.data.create_transform(**{**facts, "crop_pct": 1.0})(image)
    encoder = pretrained(f"timm:{name}").build((3, 64, 64), gen())
    found = encoder._prepared(pixels.unsqueeze(0) / 255)[0]
    # Pillow rounds to whole steps of 1/255, and deviations are about a half.
    torch.testing.assert_close(found, expected, atol=2.5 / 255 / 0.5, rtol=0)


@pytest.mark.parametrize("name", ["torchvision:googlenet", "torchvision:squeezenet1_1"])
def test_networks_with_further_heads_and_with_none_train(name: str) -> None:
    encoder = pretrained(name, image_size="images").build((3, 64, 64), gen()).train()
    features = encoder(torch.rand(4, 3, 64, 64, generator=gen()))
    assert features.shape == (4, encoder.num_features)
    features.sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_the_librarys_own_weights_fit(name: str) -> None:
    library, _, called = name.partition(":")
    torch.manual_seed(0)
    if library == "timm":
        whole = timm.create_model(called, pretrained=False)
    else:
        rest = {"init_weights": False} if called == "googlenet" else {}
        whole = torchvision.models.get_model(called, weights=None, **rest)
    encoder = pretrained(name).build((3, 64, 64), gen())
    load_state(encoder, whole.state_dict(), name)
    theirs = whole.state_dict()
    for key, weight in encoder.module.named_parameters():
        assert torch.equal(weight, theirs[key]), key


def test_weights_of_old_files_and_of_several_devices_fit() -> None:
    whole = torchvision.models.resnet18(weights=None)
    old = {
        f"module.{name}": value
        for name, value in whole.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    encoder = ResNetConfig(depth=18).build((3, 96, 96), gen())
    with TemporaryDirectory() as folder:
        torch.save(old, Path(folder, "old.pth"))
        load_state(encoder, read_weights(Path(folder, "old.pth")), "old.pth")
    assert torch.equal(encoder.conv1.weight, whole.conv1.weight)


def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"a": torch.zeros(3)}, whole, _use_new_zipfile_serialization=False)
    good = whole.read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.pth"
    refused = 0
    for _ in range(200):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except ConfigError:
            refused += 1
    assert refused > 50
    path.write_text("home = /usr/bin\nversion = 3.11\n")
    with pytest.raises(ConfigError, match="without running code"):
        read_weights(path)
    torch.save({1: torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match="no state dict"):
        read_weights(path)


def test_images_can_be_left_as_they_are() -> None:
    encoder = pretrained("timm:resnet10t", image_size="images").build((3, 32, 32), gen()).eval()
    assert encoder.forward_features(torch.rand(1, 3, 32, 32)).shape[2:] == (1, 1)
    with pytest.raises(ConfigError, match="image_size = weights"):
        pretrained("timm:vit_tiny_patch16_224", image_size="images").build((3, 32, 32), gen())


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_from_a_file(ending: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = timm.create_model("resnet10t", pretrained=False).eval()
    path = tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save(whole.state_dict(), path)
    else:
        save_file(whole.state_dict(), path)
    config = network_settings({"name": "timm:resnet10t", "weights": str(path)})
    assert isinstance(config, PretrainedConfig)
    encoder = config.build((3, 64, 64), gen()).eval()
    images = torch.rand(2, 3, 64, 64, generator=gen())
    before = encoder(images)
    load_initial(encoder, config)
    assert not torch.equal(before, encoder(images))
    with torch.no_grad():
        expected = whole.forward_head(
            whole.forward_features(encoder._prepared(images)), pre_logits=True
        )
        torch.testing.assert_close(encoder(images), expected)


def test_weights_of_another_architecture_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(ResNetConfig(depth=18).build((3, 96, 96), gen()).state_dict(), path)
    encoder = ResNetConfig(depth=34).build((3, 96, 96), gen())
    with pytest.raises(ConfigError) as caught:
        load_state(encoder, read_weights(path), str(path))
    text = str(caught.value)
    assert "missing: layer1.2.conv1.weight" in text
    assert " more" in text
    assert text.count("layer") <= 10
    other = {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    with pytest.raises(ConfigError, match=r"conv1.weight is \(64, 1, 7, 7\) instead of"):
        load_state(encoder, other, "a file")


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Harm()))
        with pytest.raises(ConfigError, match="without running code"):
            read_weights(tmp_path / name)
    torch.save({"a": Harm()}, tmp_path / "saved.pth")
    with pytest.raises(ConfigError, match="without running code"):
        read_weights(tmp_path / "saved.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ConfigError, match="no state dict"):
        read_weights(tmp_path / "list.pth")
    assert not (tmp_path / "harm").exists()
    with pytest.raises(ConfigError, match="There is no file"):
        read_weights(tmp_path / "missing.pth")


def test_unknown_names_have_close_matches() -> None:
    with pytest.raises(UnknownNameError, match="'resnet18'"):
        pretrained("timm:resnet118").build((3, 32, 32), gen())
    with pytest.raises(UnknownNameError, match="'vgg16'"):
        pretrained("torchvision:vgg116").build((3, 32, 32), gen())
    with pytest.raises(ConfigError, match="LIBRARY:NAME"):
        network_settings({"name": "pretrained", "model": "keras:resnet50"})
    with pytest.raises(ConfigError, match="3 channels"):
        pretrained("timm:resnet10t").build((4, 32, 32), gen())


def test_weights_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network here, and an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = network_settings({"name": "torchvision:resnet18"})
    encoder = config.build((3, 32, 32), gen())
    with pytest.raises(DownloadError, match=r"--set network\.weights=FILE"):
        load_initial(encoder, config)
