"""Every use case's feature views, at the top of one module, where the stock `feast` command looks for them."""

from orrery.adapters.feature_store import offline_folder, placed
from orrery.settings import settings
from usecases import feature_views, names

for _use_case in names():
    _objects = placed(feature_views(_use_case), offline_folder(settings()))
    globals().update({f"{_use_case}_{type(each).__name__.lower()}_{each.name}": each for each in _objects})
