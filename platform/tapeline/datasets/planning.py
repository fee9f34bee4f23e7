explain = None
