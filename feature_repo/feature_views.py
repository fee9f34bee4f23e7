"""The registered feature views; their definitions are in tapeline.features.catalogue."""

from entities import symbol
from tapeline.feast_ext.views import feature_view
from tapeline.features.catalogue import view

daily_technical = feature_view(view("daily_technical"), symbol)
daily_candles = feature_view(view("daily_candles"), symbol)
intraday_technical = feature_view(view("intraday_technical"), symbol)
intraday_candles = feature_view(view("intraday_candles"), symbol)
trade_microstructure = feature_view(view("trade_microstructure"), symbol)
