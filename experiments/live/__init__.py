"""A page on which a training is seen and steered: a session that learns, a thin server, a static page."""
