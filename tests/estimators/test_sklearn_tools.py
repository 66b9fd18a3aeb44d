"""scikit-learn's tools find the same values on frames as on arrays."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, SequentialFeatureSelector
from sklearn.inspection import DecisionBoundaryDisplay, partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    PredictionErrorDisplay,
    RocCurveDisplay,
    get_scorer,
    get_scorer_names,
)
from sklearn.model_selection import (
    FixedThresholdClassifier,
    HalvingGridSearchCV,
    LearningCurveDisplay,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dadmm import NMF, ADMMClassifier, ADMMRegressor, BlockADMM, DeepFacto, load

ROWS, NAMES = 90, ["a", "b", "c", "d"]
SMALL = {
    "solver": BlockADMM(batch_size=16, learning_rate=0.02),
    "max_iter": 6,
    "random_state": 0,
}
X, KINDS = make_classification(
    ROWS, 4, n_informative=3, n_redundant=0, n_classes=3, n_clusters_per_class=1, random_state=0
)
YES = (KINDS > 0).astype(int)
WORDS = np.array(["no", "yes"])[YES]
PRICE = np.exp(X[:, 0] / 4) + X[:, 1] ** 2 / 9 + 1.0
BOTH = np.stack([PRICE, PRICE[::-1]], axis=1)
INDEX = pd.Index([f"row {i}" for i in range(ROWS)], name="id")
FRAME = pd.DataFrame(X, INDEX, NAMES)


def classifier(**options):
    return ADMMClassifier((6,), **SMALL, **options)


def regressor(**options):
    return ADMMRegressor((6,), **SMALL, **options)


def labelled(y):
    """Return targets as they come with a frame."""
    return pd.DataFrame(y, INDEX, ["p", "q"]) if y.ndim == 2 else pd.Series(y, INDEX, name="y")


def agree(find, y, finite=True):
    """Check that `find(x, y)` is the same on arrays and on a frame, and finite."""
    plain, framed = find(X, y), find(FRAME, labelled(y))
    assert type(framed) is type(plain)
    np.testing.assert_array_equal(framed, plain)
    assert not finite or np.isfinite(plain).all()


# ------------------------------------------------------------------------------------- predictions


def tables():
    """Yield the rows in each kind of table in memory."""
    yield FRAME
    yield {name: FRAME[name].tolist() for name in NAMES}
    yield FRAME.to_records(index=False)
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    yield pa.Table.from_pandas(FRAME)
    yield pytest.importorskip("polars", reason="needs polars").from_pandas(FRAME)


@pytest.mark.parametrize("y", [YES, WORDS, KINDS, np.stack([YES, 1 - YES], 1), PRICE, BOTH])
def test_predictions_of_tables_in_memory_are_the_arrays_of_arrays(y):
    model = (regressor if y.dtype.kind == "f" else classifier)().fit(FRAME, labelled(y))
    names = ["predict", "predict_proba", "decision_function"]
    for name in names[: 1 if y.dtype.kind == "f" else None]:
        expected = getattr(model, name)(X)
        assert expected.ndim == (y.ndim if name == "predict" else expected.ndim)
        for table in tables():
            found = getattr(model, name)(table)
            assert type(found) is np.ndarray
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


def test_predictions_of_files_have_the_index_of_the_file(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    FRAME.to_parquet(tmp_path / "x.parquet")
    FRAME.to_csv(tmp_path / "x.csv", index_label="")
    model = classifier(run=tmp_path / "run").fit(FRAME, labelled(WORDS))
    for again in (model, load(tmp_path / "run")):
        for name in ("x.parquet", "x.csv"):
            found = again.predict(tmp_path / name)
            assert found.index.name == "id" or name == "x.csv"
            pd.testing.assert_index_equal(found.index, INDEX, check_names=False)
            np.testing.assert_array_equal(found, model.predict(X))


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge", "squared"])
@pytest.mark.parametrize("y", [YES, KINDS])
def test_the_decision_says_which_class_is_likely(loss, y):
    model = classifier(loss=loss).fit(X, y)
    found = model.decision_function(X)
    assert found.shape == ((ROWS,) if y is YES else (ROWS, 3))
    chosen = (found > 0).astype(int) if y is YES else found.argmax(axis=1)
    np.testing.assert_array_equal(chosen, model.predict(X))


# ----------------------------------------------------------------------------------------- scorers

NUMBERS = {name for name in get_scorer_names() if "error" in name or "deviance" in name} | {
    "r2",
    "d2_absolute_error_score",
    "explained_variance",
}
SEVERAL = {name for name in get_scorer_names() if "_ov" in name} | {"top_k_accuracy"}
SAMPLES = {name for name in get_scorer_names() if name.endswith("_samples")}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("name", get_scorer_names())
def test_each_scorer_gives_the_same_score(name):
    if name in NUMBERS:
        make, y = regressor, PRICE
    elif name in SAMPLES:
        make, y = classifier, np.stack([YES, 1 - YES], axis=1)
    else:
        make, y = classifier, KINDS if name in SEVERAL else YES

    def score(x, y):
        return cross_val_score(make(), x, y, scoring=name, cv=2, error_score="raise")

    agree(score, y, finite="likelihood_ratio" not in name)


@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "neg_log_loss", "f1_macro"])
def test_scorers_take_labels_that_are_words(name):
    agree(lambda x, y: get_scorer(name)(classifier().fit(x, y), x, y), WORDS)


# --------------------------------------------------------------------------------- meta-estimators

CLASSES = {
    "calibration": lambda: CalibratedClassifierCV(classifier(), cv=2),
    "calibration, isotonic": lambda: CalibratedClassifierCV(
        classifier(), cv=2, method="isotonic", ensemble=False
    ),
    "stacking": lambda: StackingClassifier(
        [("net", classifier()), ("line", LogisticRegression())], cv=2
    ),
    "stacking a network": lambda: StackingClassifier(
        [("line", LogisticRegression())], classifier(), cv=2, passthrough=True
    ),
    "soft voting": lambda: VotingClassifier(
        [("net", classifier()), ("line", LogisticRegression())], voting="soft"
    ),
    "bagging": lambda: BaggingClassifier(classifier(), 2, random_state=0),
    "pipeline": lambda: make_pipeline(StandardScaler(), classifier()),
    "pipeline of frames": lambda: make_pipeline(
        ColumnTransformer([("some", StandardScaler(), [0, 1])], remainder="passthrough").set_output(
            transform="pandas"
        ),
        classifier(),
    ),
    "halving": lambda: HalvingGridSearchCV(
        classifier(), {"alpha": [1e-4, 1e-2]}, cv=2, min_resources=60, random_state=0
    ),
}
TWO_CLASSES = {
    "fixed threshold": lambda: FixedThresholdClassifier(classifier(), threshold=0.3),
    "tuned threshold": lambda: TunedThresholdClassifierCV(classifier(), cv=2),
}
MANY_CLASSES = {
    "one against the rest": lambda: OneVsRestClassifier(classifier()),
    "one against one": lambda: OneVsOneClassifier(classifier()),
}
TARGETS = {
    "transformed": lambda: TransformedTargetRegressor(
        regressor(), func=np.log, inverse_func=np.exp
    ),
    "stacking": lambda: StackingRegressor([("net", regressor()), ("line", Ridge())], cv=2),
    "voting": lambda: VotingRegressor([("net", regressor()), ("line", Ridge())]),
}
SEVERAL_TARGETS = {
    "several": lambda: MultiOutputRegressor(regressor()),
    "chain": lambda: RegressorChain(regressor(), cv=2),
    "transformed": lambda: TransformedTargetRegressor(
        regressor(), func=np.log, inverse_func=np.exp
    ),
}
SEVERAL_LABELS = {
    "several": lambda: MultiOutputClassifier(classifier()),
    "chain": lambda: ClassifierChain(classifier(), cv=2),
}
CASES = [
    pytest.param(make, y, id=f"{kind}: {name}")
    for kind, table, y in (
        ("two classes", {**CLASSES, **TWO_CLASSES}, WORDS),
        ("many classes", {**CLASSES, **MANY_CLASSES}, KINDS),
        ("target", TARGETS, PRICE),
        ("targets", SEVERAL_TARGETS, BOTH),
        ("labels", SEVERAL_LABELS, np.stack([YES, (X[:, 0] > 0).astype(int)], axis=1)),
    )
    for name, make in table.items()
]


@pytest.mark.parametrize(("make", "y"), CASES)
def test_each_meta_estimator_predicts_the_same(make, y):
    plain = make().fit(X, y)
    framed = make().fit(FRAME, labelled(y))
    expected, found = plain.predict(X), framed.predict(FRAME)
    assert type(found) is np.ndarray
    if y.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    else:
        np.testing.assert_array_equal(found, expected)
    if hasattr(plain, "predict_proba"):
        np.testing.assert_allclose(framed.predict_proba(FRAME), plain.predict_proba(X), rtol=1e-12)


# ------------------------------------------------------------------------------ inspection, curves


def weight_of_features(model):
    return np.abs(model.network_.params["w_1"]).sum(axis=1)


FOUND = {
    "RFE": lambda x, y: (
        RFE(classifier(), n_features_to_select=2, importance_getter=weight_of_features)
        .fit(x, y)
        .ranking_
    ),
    "sequential selection": lambda x, y: (
        SequentialFeatureSelector(classifier(), n_features_to_select=1, cv=2).fit(x, y).support_
    ),
    "permutation importance": lambda x, y: (
        permutation_importance(
            classifier().fit(x, y), x, y, scoring="roc_auc", n_repeats=2, random_state=0
        ).importances
    ),
    "partial dependence": lambda x, y: (
        partial_dependence(classifier().fit(x, y), x, [0], grid_resolution=5).average
    ),
    "learning curve": lambda x, y: np.stack(
        learning_curve(
            classifier(), x, y, cv=2, train_sizes=[0.6, 1.0], scoring="roc_auc", shuffle=False
        )[1:]
    ),
    "validation curve": lambda x, y: np.stack(
        validation_curve(
            classifier(), x, y, param_name="alpha", param_range=[0.1], cv=2, scoring="roc_auc"
        )
    ),
    "predictions of folds": lambda x, y: cross_val_predict(
        classifier(), x, y, cv=2, method="predict_proba"
    ),
    "decisions of folds": lambda x, y: cross_val_predict(
        classifier(), x, y, cv=2, method="decision_function"
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_inspection_finds_the_same(name):
    agree(FOUND[name], YES)


def test_the_partial_dependence_of_a_regression_is_the_same():
    def find(x, y):
        return partial_dependence(regressor().fit(x, y), x, [(0, 1)], grid_resolution=4).average

    agree(find, PRICE)


DISPLAYS = {
    "ROC": (classifier, YES, RocCurveDisplay.from_estimator, "tpr"),
    "DET": (classifier, YES, DetCurveDisplay.from_estimator, "fnr"),
    "precision": (classifier, YES, PrecisionRecallDisplay.from_estimator, "precision"),
    "calibration": (classifier, YES, CalibrationDisplay.from_estimator, "prob_true"),
    "confusion": (classifier, KINDS, ConfusionMatrixDisplay.from_estimator, "confusion_matrix"),
    "errors": (regressor, PRICE, PredictionErrorDisplay.from_estimator, "y_pred"),
}


@pytest.mark.parametrize("name", DISPLAYS)
def test_displays_show_the_same(name):
    pytest.importorskip("matplotlib", reason="needs matplotlib").use("Agg")
    make, y, draw, attribute = DISPLAYS[name]
    options = {"subsample": None, "random_state": 0} if name == "errors" else {}
    agree(lambda x, y: getattr(draw(make().fit(x, y), x, y, **options), attribute), y)


def test_displays_of_curves_and_boundaries_show_the_same():
    pytest.importorskip("matplotlib", reason="needs matplotlib").use("Agg")
    agree(
        lambda x, y: (
            LearningCurveDisplay.from_estimator(
                classifier(), x, y, cv=2, train_sizes=[0.6, 1.0]
            ).test_scores
        ),
        YES,
    )

    def boundary(x, y):
        two = x.iloc[:, :2] if hasattr(x, "iloc") else x[:, :2]
        model = classifier().fit(two, y)
        return DecisionBoundaryDisplay.from_estimator(model, two, grid_resolution=5).response

    agree(boundary, YES)


# -------------------------------------------------------------------------------------- set_output


@pytest.mark.parametrize(
    "make",
    [
        lambda: NMF(2, max_iter=3, random_state=0),
        lambda: DeepFacto(2, (), standardize="scale", **SMALL),
    ],
)
@pytest.mark.parametrize("how", ["pandas", "polars"])
def test_codes_come_in_the_container_that_set_output_names(make, how):
    kind = pytest.importorskip(how, reason=f"needs {how}").DataFrame
    x = FRAME - FRAME.min()
    plain = make().fit(x, YES)
    codes = plain.transform(x)
    assert type(codes) is np.ndarray
    model = clone(plain).set_output(transform=how)
    for found in (model.fit(x, YES).transform(x), model.fit_transform(x, YES)):
        assert type(found) is kind
        assert list(found.columns) == plain.get_feature_names_out().tolist()
        np.testing.assert_array_equal(found, codes)
        if how == "pandas":
            pd.testing.assert_index_equal(found.index, INDEX)
