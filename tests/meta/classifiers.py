"""Small classifiers of every shape, as exporters and users make them; ``MODELS`` has a function for each."""

import ml_dtypes
import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, INT64, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.UINT8
LAYERS = ("conv", "relu", "pool", "flat", "scores")
CLASSES = 10


class Classifier:
    """Conv, Relu, GlobalAveragePool, Flatten, MatMul; nodes, weights and ends can be changed before ``model``."""

    def __init__(self, image="x", scores="y", *, channels=3, dtype=np.float32, shape=None, seed=1):
        self.random, self.dtype = np.random.default_rng(seed), dtype
        self.weights = {}
        self.nodes = [
            self.node("Conv", [image, self.weight("w", 8, channels, 3, 3), self.weight("b", 8)], ["c"], pads=[1] * 4),
            self.node("Relu", ["c"], ["a"]),
            self.node("GlobalAveragePool", ["a"], ["p"]),
            self.node("Flatten", ["p"], ["f"]),
            self.node("MatMul", ["f", self.weight("d", 8, CLASSES)], [scores]),
        ]
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs = {"x": (kind, shape or ["n", channels, 16, 16])}
        self.outputs = {"y": (kind, ["n", CLASSES])}

    @staticmethod
    def node(*words, **attributes):
        """Return a node."""
        return helper.make_node(*words, **attributes)

    def weight(self, name, *shape, scale=0.2):
        """Add a random weight and return its name."""
        self.weights[name] = (self.random.standard_normal(shape) * scale).astype(self.dtype)
        return name

    def constant(self, name, value, dtype=np.int64):
        """Add a constant and return its name."""
        self.weights[name] = np.array(value, dtype)
        return name

    def statistics(self, gain):
        """Add scale, bias, mean and variance of 8 channels and return their names."""
        values = {"gain": gain, "zero": 0, "mean": 0, "variance": 1}
        return [self.constant(name, np.full(8, value), np.float32) for name, value in values.items()]

    def add(self, *words, first=False, **attributes):
        """Add a node at the end, or at the beginning."""
        self.nodes.insert(0 if first else len(self.nodes), self.node(*words, **attributes))
        return self

    def output(self, name, kind=FLOAT, shape=None):
        """Add an output."""
        self.outputs[name] = (kind, shape)
        return self

    def model(self, opset=13, **more):
        """Return the model."""
        ends = [
            [helper.make_tensor_value_info(name, *row) for name, row in side.items()]
            for side in (self.inputs, self.outputs)
        ]
        weights = [numpy_helper.from_array(array, name) for name, array in self.weights.items()]
        graph = helper.make_graph(self.nodes, "classifier", *ends, weights, **more)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))


def standardised_weight():
    """BatchNormalization in training mode on a weight, as exports of timm's ScaledStdConv2d have it."""
    made = Classifier()
    made.nodes[0].input[1] = "standard"
    flat, shape = made.constant("flat", [1, 8, 27]), made.constant("shape", [8, 3, 3, 3])
    parameters = made.statistics(0.3)
    made.add("Reshape", ["normed", shape], ["standard"], first=True)
    made.add(
        "BatchNormalization", ["w1", *parameters], ["normed", "m1", "v1"], first=True, training_mode=1, epsilon=1e-6
    )
    return made.add("Reshape", ["w", flat], ["w1"], first=True).model(17)


def dropout():
    """Dropout left in training mode."""
    made = Classifier(scores="l")
    return made.add("Dropout", ["l", made.constant("r", 0.5, np.float32), made.constant("t", 1, bool)], ["y"]).model()


def int8_without_zero_point():
    """QuantizeLinear whose type is in an attribute."""
    made = Classifier("dequantized")
    scale = made.constant("s", 0.03, np.float32)
    made.add("DequantizeLinear", ["q", scale], ["dequantized"], first=True)
    return made.add("QuantizeLinear", ["x", scale], ["q"], first=True, output_dtype=TensorProto.INT8).model(21)


def further_outputs():
    """Features, the most likely class and which scores are positive, beside the scores."""
    made = Classifier().output("f", FLOAT, ["n", 8]).output("k", INT64, ["n"]).output("g", TensorProto.BOOL)
    made.add("Greater", ["y", made.constant("zero", 0, np.float32)], ["g"])
    return made.add("ArgMax", ["y"], ["k"], axis=1, keepdims=0).model()


def only_a_class():
    """The most likely class and nothing else."""
    made = Classifier()
    del made.outputs["y"]
    return made.output("k", INT64, ["n"]).add("ArgMax", ["y"], ["k"], axis=1, keepdims=0).model()


def mean_of_the_batch():
    """An output without a row for each image."""
    return Classifier().output("m", FLOAT, [8]).add("ReduceMean", ["f"], ["m"], axes=[0], keepdims=0).model()


def number_and_weight():
    """A number, a weight, nothing, and text, as outputs."""
    made = Classifier().output("s", FLOAT, []).output("d", FLOAT, [8, CLASSES]).output("e", FLOAT, ["n", 0])
    none, classes = made.constant("none", [0]), made.constant("classes", [1])
    made.add("Slice", ["y", none, none, classes], ["e"]).add("ReduceMean", ["f"], ["s"], keepdims=0)
    made.add("ArgMax", ["y"], ["i"], axis=1, keepdims=0).add("Gather", ["names", "i"], ["t"])
    made.output("t", TensorProto.STRING, ["n"])
    model = made.model()
    names = helper.make_tensor("names", TensorProto.STRING, [CLASSES], [f"class {at}" for at in range(CLASSES)])
    model.graph.initializer.append(names)
    return model


def sequence():
    """A sequence beside the scores."""
    made = Classifier().add("SequenceConstruct", ["y", "y"], ["s"]).model()
    made.graph.output.append(helper.make_tensor_sequence_value_info("s", FLOAT, None))
    return made


def only_a_sequence():
    """Nothing but a sequence."""
    made = sequence()
    del made.graph.output[0]
    return made


def one_row():
    """One row for all images: the graph fixes the batch."""
    made = Classifier(scores="l")
    made.outputs["y"] = (FLOAT, [1, "m"])
    return made.add("Reshape", ["l", made.constant("s", [1, -1])], ["y"]).model()


def batch_of_two():
    """A Reshape to two images: the graph fixes the batch."""
    made = Classifier(scores="l")
    return made.add("Reshape", ["l", made.constant("s", [2, -1])], ["y"]).model()


def sparse_weight():
    """A weight that is stored sparse."""
    made = Classifier()
    values = numpy_helper.from_array(made.random.standard_normal(3).astype(np.float32), "d")
    del made.weights["d"]
    places = numpy_helper.from_array(np.array([[0, 1], [4, 3], [7, 9]]), "d_places")
    return made.model(sparse_initializer=[helper.make_sparse_tensor(values, places, [8, CLASSES])])


def cropped():
    """Pad with negative widths."""
    made = Classifier("t")
    return made.add("Pad", ["x", made.constant("w_", [0, 0, -1, -2, 0, 0, -3, 1])], ["t"], first=True).model()


def resized():
    """Resize in front."""
    made = Classifier("t")
    scales = made.constant("s", [1, 1, 2, 2], np.float32)
    return made.add("Resize", ["x", "", scales], ["t"], first=True, mode="linear").model()


def disputed():
    """A Resize whose length is rounded, which onnx and ONNX Runtime understand differently."""
    made = Classifier("t", shape=["n", 3, 15, 15])
    scales = made.constant("s", [1, 1, 0.5, 0.5], np.float32)
    more = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return made.add("Resize", ["x", "", scales], ["t"], first=True, **more).model()


def normalised():
    """LRN, as AlexNet and GoogLeNet have it."""
    made = Classifier()
    made.nodes[2].input[0] = "l"
    made.nodes.insert(2, made.node("LRN", ["a"], ["l"], size=5))
    return made.model()


def written_at_minus_one():
    """ScatterND into the last image: images of a batch affect each other."""
    made = Classifier()
    made.nodes[2].input[0] = "s"
    place, value = made.constant("i", [[-1, 0, 0, 0]]), made.constant("u", [5], np.float32)
    made.nodes.insert(2, made.node("ScatterND", ["a", place, value], ["s"]))
    return made.model(16)


def centred():
    """Features less their mean over the two images that the graph fixes, and a bias that is not a constant."""
    made = Classifier("shifted", shape=[2, 3, 16, 16])
    made.nodes[-1].input[0] = "centred"
    made.add("Add", ["x", "row"], ["shifted"], first=True)
    made.add("Reshape", [made.weight("shift", 3), made.constant("s0", [1, 3, 1, 1])], ["row"], first=True)
    made.nodes[-1:-1] = [
        made.node("Reshape", ["f", made.constant("s1", [2, -1])], ["pair"]),
        made.node("ReduceMean", ["pair"], ["mean"], axes=[0]),
        made.node("Sub", ["pair", "mean"], ["centred"]),
    ]
    return made.model()


def channels_last():
    """NHWC, as exports of TensorFlow have it."""
    made = Classifier("t", shape=["n", 16, 16, 3])
    return made.add("Transpose", ["x"], ["t"], first=True, perm=[0, 3, 1, 2]).model()


def open_size():
    """Images of any size."""
    return Classifier(shape=["n", 3, "h", "w"]).model()


def one_channel():
    """Grey images."""
    return Classifier(channels=1).model()


def of_bytes():
    """Pixels as bytes."""
    made = Classifier("t")
    made.inputs["x"] = (UINT8, ["n", 3, 16, 16])
    made.add("Mul", ["float", made.constant("s", 1 / 255, np.float32)], ["t"], first=True)
    return made.add("Cast", ["x"], ["float"], first=True, to=FLOAT).model()


def several_inputs():
    """A temperature, and a row of offsets for each image."""
    made = Classifier(scores="l")
    made.inputs |= {"temperature": (FLOAT, []), "offsets": (FLOAT, ["n", CLASSES])}
    return made.add("Mul", ["l", "temperature"], ["t"]).add("Add", ["t", "offsets"], ["y"]).model()


def overflowing(dtype=np.float32):
    """A convolution whose outputs fp16 cannot hold."""
    made = Classifier(dtype=dtype)
    made.weight("w", 8, 3, 3, 3, scale=1e4)
    made.weight("d", 8, CLASSES, scale=1e-5)
    return made.model()


def overflowing_in_half():
    """The same, in a file of fp16."""
    return overflowing(np.float16)


def masked():
    """Scores of -inf for most classes before a Softmax, as attention masks have them."""
    made = Classifier(scores="l")
    mask = made.constant("mask", np.arange(CLASSES) < 7, bool)
    lowest = made.constant("lowest", -np.inf, np.float32)
    made.add("Where", [mask, lowest, "l"], ["m"]).add("MatMul", ["m2", made.weight("e", CLASSES, CLASSES)], ["y"])
    made.nodes.insert(-1, made.node("Softmax", ["m"], ["m2"], axis=1))
    return made.model()


def mostly_nan():
    """NaN in most scores."""
    made = Classifier(scores="l")
    factor = made.constant("s", [np.nan] * 8 + [1.0] * 2, np.float32)
    return made.add("Mul", ["l", factor], ["y"]).model()


def nan_in_a_channel():
    """Channels as scores, one of which is NaN before its Relu."""
    made = Classifier()
    made.weights["b"][2] = np.nan
    made.nodes.pop()
    made.nodes[-1].output[0] = "y"
    made.outputs["y"] = (FLOAT, ["n", 8])
    return made.model()


def all_equal():
    """The same score for every class, whatever the image."""
    made = Classifier(scores="l")
    return made.add("Mul", ["l", made.constant("s", 0, np.float32)], ["y"]).model()


def quantised(layers=4):
    """A static int8 network, as onnxruntime.quantization writes them."""
    made, width = Classifier(), 3
    made.nodes, name = [], "x"
    scale, zero = made.constant("s", 0.03, np.float32), made.constant("z", 0, np.int8)
    for at in range(layers + 1):
        made.add("QuantizeLinear", [name, scale, zero], [f"q{at}"]).add(
            "DequantizeLinear", [f"q{at}", scale, zero], [f"x{at}"]
        )
        if at == layers:
            break
        made.weights[f"w{at}"] = made.random.integers(-127, 128, (16, width, 3, 3)).astype(np.int8)
        step = made.constant(f"s{at}", 1.8 / 127 / np.sqrt(width * 9), np.float32)
        made.add("DequantizeLinear", [f"w{at}", step, zero], [f"d{at}"])
        made.add("Conv", [f"x{at}", f"d{at}"], [f"c{at}"], pads=[1] * 4, strides=[1 + at % 2] * 2)
        made.add("Relu", [f"c{at}"], [f"r{at}"])
        name, width = f"r{at}", 16
    made.add("GlobalAveragePool", [f"x{layers}"], ["p"]).add("Flatten", ["p"], ["f"])
    return made.add("MatMul", ["f", made.weight("head", 16, CLASSES)], ["y"]).model()


def quantised_operators():
    """A convolution and a pooling of integers, with round scales, so that many values are at ties."""
    made = Classifier()
    scale, small = made.constant("s", 0.05, np.float32), made.constant("s0", 0.01, np.float32)
    zero, none = made.constant("z", 0, np.uint8), made.constant("z0", 0, np.int8)
    made.weights["w"] = made.random.integers(-100, 100, (8, 3, 3, 3)).astype(np.int8)
    made.weights["b"] = made.random.integers(-100, 100, 8).astype(np.int32)
    made.nodes[0] = made.node(
        "QLinearConv", ["q", scale, zero, "w", small, none, scale, zero, "b"], ["i"], pads=[1] * 4
    )
    made.nodes.insert(1, made.node("MaxPool", ["i"], ["m"], kernel_shape=[3, 3], pads=[1] * 4))
    made.nodes.insert(2, made.node("DequantizeLinear", ["m", scale, zero], ["c"]))
    return made.add("QuantizeLinear", ["x", scale, zero], ["q"], first=True).model()


def weights_in_4_bits():
    """A dense layer with a scale for each block of 16 weights, as quantisers of large models write it."""
    made = Classifier()
    steps = made.random.integers(-8, 8, (64, CLASSES)).astype(ml_dtypes.int4)
    made.weights |= {"w": made.weights["w"].repeat(8, 0), "b": made.weights["b"].repeat(8), "d": steps}
    scales = made.weight("s", 4, CLASSES, scale=0.01)
    made.nodes[-1].input[1] = "dequantised"
    return made.add("DequantizeLinear", ["d", scales], ["dequantised"], first=True, block_size=16, axis=0).model(21)


def dynamically_quantised():
    """A convolution of integers, with a scale from the values of its input, as quantize_dynamic writes it."""
    made = Classifier()
    made.weights["w"] = made.random.integers(1, 256, (8, 3, 3, 3)).astype(np.uint8)
    middle = made.constant("middle", 128, np.uint8)  # ONNX Runtime 1.23 has no kernel for signed weights
    made.nodes[0] = made.node("ConvInteger", ["q", "w", "z", middle], ["i"], pads=[1] * 4)
    scaled = [
        made.node("Cast", ["i"], ["j"], to=FLOAT),
        made.node("Mul", ["s", made.constant("s0", 0.002, np.float32)], ["t"]),
        made.node("Mul", ["j", "t"], ["c"]),
    ]
    made.nodes[1:1] = scaled
    return made.add("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], first=True).model()


def batch_normalised():
    """A convolution without a bias, BatchNormalization with stored statistics, and scores times a constant."""
    made = Classifier(scores="l")
    made.nodes[0].CopyFrom(made.node("Conv", ["x", "w"], ["h"], pads=[1] * 4))
    statistics = [
        made.constant(name, np.abs(made.random.standard_normal(8)) + 0.1, np.float32)
        for name in ("gain", "shift", "mean", "variance")
    ]
    made.nodes.insert(1, made.node("BatchNormalization", ["h", *statistics], ["c"]))
    return made.add("Mul", ["l", made.constant("s", 0.3, np.float32)], ["y"]).model()


def standardised_images():
    """The mean and the standard deviation of the images are in the graph."""
    made = Classifier(image="i")
    mean, deviation = (
        made.constant(name, np.reshape([0.5, 0.3, 0.7], (1, 3, 1, 1)), np.float32) for name in ("mean", "deviation")
    )
    made.add("Div", ["m", deviation], ["i"], first=True).add("Sub", ["x", mean], ["m"], first=True)
    return made.model()


def contributed():
    """An operator of com.microsoft."""
    made = Classifier(scores="l").add("QuickGelu", ["l"], ["y"], domain="com.microsoft", alpha=1.0).model()
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made


def unknown():
    """An operator that nobody has."""
    made = Classifier(scores="l").add("Own", ["l"], ["y"], domain="com.example").model()
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    return made
