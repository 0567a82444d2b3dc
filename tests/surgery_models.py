"""Models to cut, and what is read off their heads."""

from ensemble_heads.keras_api import keras

layers = keras.layers


def small_model(**dense):
    inputs = keras.Input((6,), name="features")
    x = layers.Dense(12, activation="relu", name="shared")(inputs)
    x = layers.Dense(16, activation="relu", name="hidden", **dense)(x)
    x = layers.Dropout(0.1, seed=5, name="dropout")(x)
    x = layers.Dense(8, activation="relu", name="top", **dense)(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="out")(x))


def residual_model():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    for number in range(2):
        y = layers.Conv2D(8, 3, padding="same", name=f"conv{number}")(x)
        x = layers.Add(name=f"add{number}")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="out")(x))


def units(model, name):
    return [head.get_layer(name).units for head in model.heads]
