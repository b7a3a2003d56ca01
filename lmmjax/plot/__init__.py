"""Pictures of a fit: what was measured, what was fitted, and whether to believe it.

Every function takes a fit and returns what it drew on: a matplotlib ``Axes``, or a ``Figure`` where
there are several panels. They need matplotlib (``pip install 'lmmjax[plot]'``), which is imported
when the first picture is drawn. Colours are those of Okabe and Ito, which colour-blind readers can
tell apart, and no picture relies on colour alone.

Units, where they are to stand on the axes: ``units={"Reaction": "ms", "Days": "days"}``, or once
for all pictures in the data frame, ``df.attrs["units"] = {...}``, before the fit.
"""

from lmmjax.plot.bootstrap import bootstrap as bootstrap
from lmmjax.plot.gallery import diagnostics as diagnostics
from lmmjax.plot.gallery import save_pictures as save_pictures
from lmmjax.plot.influence import influence as influence
from lmmjax.plot.lines import group_panels as group_panels
from lmmjax.plot.lines import trajectories as trajectories
from lmmjax.plot.means import means as means
from lmmjax.plot.power import power as power
from lmmjax.plot.profile import profile as profile
from lmmjax.plot.quantiles import qq as qq
from lmmjax.plot.quantiles import qq_random as qq_random
from lmmjax.plot.random_effects import caterpillar as caterpillar
from lmmjax.plot.random_effects import shrinkage as shrinkage
from lmmjax.plot.residuals import residuals as residuals
from lmmjax.plot.residuals import scale_location as scale_location
