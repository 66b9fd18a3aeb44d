"""The estimators, in scikit-learn's interface, and what makes a run of them and back.

problem     pose: from an estimator and its data to a run's inputs
start       open a run's store and write these inputs
base        the base of all estimators: train in a run, take its network, predict
supervised  the base of the classifier and the regressor
classifier  ADMMClassifier
regressor   ADMMRegressor
deepfacto   DeepFacto, a classifier through factors
nmf         NMF, a factorisation
codes       what NMF and DeepFacto share
pictures    draw what factors respond to
callbacks   report a fit to scikit-learn's callbacks
load        load and resume a stored run
"""
