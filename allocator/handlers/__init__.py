"""One function for each request: `handle(request, delivery, work) -> outcome`. Load, decide, save."""
