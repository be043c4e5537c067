from pathlib import Path

from local_cluster.node_images import layer_folders


def test_an_image_of_several_layers_is_an_overlay_of_their_folders() -> None:
    mount = {
        "Type": "overlay",
        "Source": "overlay",
        "Options": ["index=off", "lowerdir=/snapshots/3/fs:/snapshots/1/fs"],
    }

    assert layer_folders(mount) == [Path("/snapshots/3/fs"), Path("/snapshots/1/fs")]


def test_an_image_of_one_layer_is_a_bind_mount_of_its_folder() -> None:
    mount = {"Type": "bind", "Source": "/snapshots/1/fs", "Options": ["ro", "rbind"]}

    assert layer_folders(mount) == [Path("/snapshots/1/fs")]
