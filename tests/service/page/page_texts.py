"""Invented texts for the page: one that is accepted, and two on which the model abstains."""

ACCEPTED = (
    "Robust entanglement between two mechanical oscillators\n\n"
    "We entangle two nanomechanical oscillators that are coupled to an optical cavity driven by a "
    "squeezed field, and compute the logarithmic negativity in the steady state. A homodyne "
    "measurement of the output field verifies the entanglement."
)
UNSURE = (
    "Counting birds by listening: a network view of the dawn chorus\n\n"
    "We place forty microphones in a forest and record the dawn chorus over one spring. A neural "
    "network separates overlapping songs, and we build a graph whose edges join individuals that "
    "answer each other. Signal processing, ecology and the statistics of networks meet in the "
    "question of who starts singing first."
)
COLD_ATOMS = (
    "Ultracold quantum gases in an optical lattice\n\n"
    "We load a Bose-Einstein condensate of rubidium atoms into an optical lattice and observe the "
    "superfluid to Mott insulator transition of ultracold bosons by time-of-flight imaging."
)
ECONOMICS = (
    "Interest rates and prices in an open economy\n\n"
    "We estimate a vector autoregression of monetary policy and inflation expectations with panel "
    "data of firms, and use instrumental variables to identify how interest rates move wages, "
    "prices and employment over the business cycle."
)
NO_PAPER = (
    "Lemon cake for a crowd\n\n"
    "Beat the butter with the sugar until pale and fluffy, then add the eggs one at a time. Fold "
    "in flour and the zest of three lemons, pour into a lined tin and bake until golden. Leave to "
    "cool before slicing; it keeps for four days in a tin."
)
CSV = "id,title,abstract\n" + "".join(
    f'p{i},"{title}","{abstract}"\n'
    for i, (title, abstract) in enumerate(
        (text.split("\n\n") for text in (ACCEPTED, UNSURE, NO_PAPER)), start=1
    )
)
CSV_WITH_BAD_RECORD = CSV + "p4,,\n"
