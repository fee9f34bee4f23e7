"""The sets of features that models are trained on and served with."""

from feast import FeatureService
from feature_views import daily_technical, intraday_technical
from on_demand import last_price_position

daily_model = FeatureService(
    name="daily_model",
    features=[daily_technical],
    description="Daily technical indicators: the input of the daily models",
)

intraday_model = FeatureService(
    name="intraday_model",
    features=[intraday_technical],
    description="Technical indicators of one-minute bars",
)

daily_with_last_price = FeatureService(
    name="daily_with_last_price",
    features=[daily_technical, last_price_position],
    description="The daily indicators, and where the price of the request stands relative to them",
)
