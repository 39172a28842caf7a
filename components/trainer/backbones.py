"""The backbones: one entry each, and all that the rest of the project knows about them.

Needs no TensorFlow: the settings are checked against this table before anything is imported. A test holds the
addresses, checksums, preprocessing and layer names together with those in `tf_keras.applications`.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

Pooling = Literal["last", "roots-1", "roots-2", "roots-3"]
"""What a head reads: `last`, the averages over the image of the last block's channels; `roots-N`, the square roots of
the averages of the last N blocks' channels, side by side."""

_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
_IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(frozen=True)
class Preprocessing:
    """What pixels (0..255) become before the first layer: `(pixel - mean) / std` in each channel.

    Attributes:
        mean: of the channels in the order that the network reads them.
        std: the same.
        reads_bgr: whether the network reads blue, green, red; our images are red, green, blue.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reads_bgr: bool = False


@dataclass(frozen=True)
class Backbone:
    """A convolutional network without its classifier.

    Attributes:
        title: its name in messages.
        constructor: the function of `tf_keras.applications` that builds it.
        multiply_adds: of its convolutions and dense layers for one image of 224 x 224 pixels, in billions.
        channels: of the outputs of the blocks; the last ones are what `Pooling` averages.
        block_shares: of these multiply-adds, by block.
        blocks: from the image to the head, a regular expression that matches the start of the names of a block's
            layers, and of no other layer. Fine-tuning frees the last ones first. A block ends where the resolution
            does, or where the family's authors end a stage.
        preprocessing: what its ImageNet weights were trained on.
        weights_url: ImageNet's weights without the classifier, in Keras's HDF5.
        weights_hash: `md5:` or `sha256:` and the hexadecimal digest of that file.
        min_image_size: height and width in pixels below which the constructor refuses, or nothing is left to pool.
        arguments: further arguments of the constructor.
        pooling: what a solved head may read; which of them, the images at hand decide.
    """

    title: str
    constructor: str
    multiply_adds: float
    block_shares: tuple[float, ...]
    channels: tuple[int, ...]
    blocks: tuple[str, ...]
    preprocessing: Preprocessing
    weights_url: str
    weights_hash: str
    min_image_size: int = 32
    arguments: dict[str, bool] = field(default_factory=dict)
    pooling: tuple[Pooling, ...] = ("last",)

    @property
    def weights_file(self) -> str:
        """The name of that file, in Keras's cache and in a mirror."""
        return self.weights_url.rpartition("/")[2]


# Simonyan & Zisserman 2014, section 2.1: the means of ImageNet, BGR as in the authors' Caffe.
_CAFFE = Preprocessing(mean=(103.939, 116.779, 123.68), reads_bgr=True)
_PLUS_MINUS_ONE = Preprocessing(mean=(127.5,) * 3, std=(127.5,) * 3)
_IMAGENET = Preprocessing(mean=_IMAGENET_MEAN, std=_IMAGENET_STD)

# Out of 733 held-out photographs of seven sets a solved head on `last` mistook 133, on the better of these 115, and its
# log loss was lower in each set. Measured with VGG16; VGG19 is its like. The weights of no other backbone were at hand.
_VGG_POOLING: tuple[Pooling, ...] = ("roots-1", "roots-2", "roots-3")
_VGG_BLOCKS = ("block1_", "block2_", "block3_", "block4_", "block5_")
_EFFICIENTNET_V2_BLOCKS = ("stem_|block1", "block2", "block3", "block4", "block5", "block6|top_")

# Ours is in float32 before the cast to bfloat16; theirs, a layer of the network, would compute in bfloat16.
_WITHOUT_PREPROCESSING = {"include_preprocessing": False}

BACKBONES: dict[str, Backbone] = {
    "vgg16": Backbone(  # Simonyan & Zisserman 2014, configuration D
        title="VGG16",
        constructor="VGG16",
        multiply_adds=15.347,
        block_shares=(0.126, 0.181, 0.301, 0.301, 0.09),
        channels=(64, 128, 256, 512, 512),
        blocks=_VGG_BLOCKS,
        preprocessing=_CAFFE,
        weights_url=f"{_KERAS_URL}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_hash="md5:6d6bbae143d832006294945121d1f1fc",
        pooling=_VGG_POOLING,
    ),
    "vgg19": Backbone(  # Simonyan & Zisserman 2014, configuration E
        title="VGG19",
        constructor="VGG19",
        multiply_adds=19.508,
        block_shares=(0.099, 0.142, 0.332, 0.332, 0.095),
        channels=(64, 128, 256, 512, 512),
        blocks=_VGG_BLOCKS,
        preprocessing=_CAFFE,
        weights_url=f"{_KERAS_URL}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_hash="md5:253f8cb515780f3b799900260a226db6",
        pooling=_VGG_POOLING,
    ),
    "resnet50v2": Backbone(  # He et al. 2016, Identity Mappings in Deep Residual Networks
        title="ResNet50V2",
        constructor="ResNet50V2",
        multiply_adds=3.48,
        block_shares=(0.034, 0.156, 0.237, 0.363, 0.21),
        channels=(64, 256, 512, 1024, 2048),
        blocks=("conv1_", "conv2_", "conv3_", "conv4_", "conv5_|post_"),
        preprocessing=_PLUS_MINUS_ONE,
        weights_url=f"{_KERAS_URL}/resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_hash="md5:fac2f116257151a9d068a22e544a4917",
    ),
    "efficientnetv2-b0": Backbone(  # Tan & Le 2021
        title="EfficientNetV2-B0",
        constructor="EfficientNetV2B0",
        multiply_adds=0.717,
        block_shares=(0.096, 0.228, 0.148, 0.058, 0.206, 0.264),
        channels=(16, 32, 48, 96, 112, 1280),
        blocks=_EFFICIENTNET_V2_BLOCKS,
        preprocessing=_IMAGENET,
        weights_url=f"{_KERAS_URL}/efficientnet_v2/efficientnetv2-b0_notop.h5",
        weights_hash="md5:893217f2bb855e2983157299931e43ff",
        arguments=_WITHOUT_PREPROCESSING,
    ),
    "efficientnetv2-s": Backbone(  # Tan & Le 2021
        title="EfficientNetV2-S",
        constructor="EfficientNetV2S",
        multiply_adds=2.849,
        block_shares=(0.049, 0.332, 0.161, 0.054, 0.19, 0.214),
        channels=(24, 48, 64, 128, 160, 1280),
        blocks=_EFFICIENTNET_V2_BLOCKS,
        preprocessing=Preprocessing(mean=(128.0,) * 3, std=(128.0,) * 3),
        weights_url=f"{_KERAS_URL}/efficientnet_v2/efficientnetv2-s_notop.h5",
        weights_hash="md5:af0682fb74e8c54910f2d4393339c070",
        arguments=_WITHOUT_PREPROCESSING,
    ),
    "mobilenetv3-large": Backbone(  # Howard et al. 2019, table 1
        title="MobileNetV3-Large",
        constructor="MobileNetV3Large",
        multiply_adds=0.214,
        block_shares=(0.049, 0.151, 0.135, 0.376, 0.289),
        channels=(16, 24, 40, 112, 960),
        blocks=(
            "Conv(/|$)|expanded_conv/",
            "expanded_conv_[12]/",
            "expanded_conv_[345]/",
            "expanded_conv_([6789]|10|11)/",
            "expanded_conv_1[234]/|Conv_1(/|$)",
        ),
        preprocessing=_PLUS_MINUS_ONE,
        weights_url=f"{_KERAS_URL}/mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        weights_hash="md5:07fb09a5933dd0c8eaafa16978110389",
        arguments=_WITHOUT_PREPROCESSING,
    ),
    "mobilenetv3-small": Backbone(  # Howard et al. 2019, table 2
        title="MobileNetV3-Small",
        constructor="MobileNetV3Small",
        multiply_adds=0.055,
        block_shares=(0.122, 0.171, 0.347, 0.36),
        channels=(16, 24, 48, 576),
        blocks=(
            "Conv(/|$)|expanded_conv/",
            "expanded_conv_[12]/",
            "expanded_conv_[34567]/",
            "expanded_conv_([89]|10)/|Conv_1(/|$)",
        ),
        preprocessing=_PLUS_MINUS_ONE,
        weights_url=f"{_KERAS_URL}/mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
        weights_hash="md5:d3e8ec802a04aa4fc771ee12a9a9b836",
        arguments=_WITHOUT_PREPROCESSING,
    ),
    "convnext-tiny": Backbone(  # Liu et al. 2022, A ConvNet for the 2020s
        title="ConvNeXt-Tiny",
        constructor="ConvNeXtTiny",
        multiply_adds=4.455,
        block_shares=(0.169, 0.174, 0.488, 0.17),
        channels=(96, 192, 384, 768),
        blocks=(
            "convnext_tiny_(stem|stage_0)",
            "convnext_tiny_(downsampling_(layernorm|conv)_0|stage_1)",
            "convnext_tiny_(downsampling_(layernorm|conv)_1|stage_2)",
            "convnext_tiny_(downsampling_(layernorm|conv)_2|stage_3)|layer_normalization$",
        ),
        preprocessing=_IMAGENET,
        weights_url=f"{_KERAS_URL}/convnext/convnext_tiny_notop.h5",
        weights_hash="sha256:d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        arguments=_WITHOUT_PREPROCESSING,
    ),
}


def pooled_blocks(pooling: Pooling) -> int:
    """Returns from how many of the last blocks a head reads."""
    return 1 if pooling == "last" else int(pooling.rpartition("-")[2])


def count_features(backbone: str, pooling: Pooling | None = None) -> int:
    """Returns how many numbers a head reads: with a pooling, or with the widest of the backbone's candidates."""
    spec = BACKBONES[backbone]
    return sum(spec.channels[-max(map(pooled_blocks, (pooling,) if pooling else spec.pooling)) :])


def forward_operations(backbone: str, image_size: int) -> float:
    """Returns the floating-point operations of a backbone's forward pass over one image."""
    return 2e9 * BACKBONES[backbone].multiply_adds * (image_size / 224) ** 2


# A type checker wants literals to be written out: that would be a second place to name a backbone.
if TYPE_CHECKING:
    BackboneName: TypeAlias = str
else:
    BackboneName = Literal[tuple(BACKBONES)]
