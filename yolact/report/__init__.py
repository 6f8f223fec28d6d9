"""Results as one page of HTML: pictures whose masks can be switched and filtered, without a server or a network."""

from yolact.report.page import SIDE, Page, Report, write

__all__ = ["SIDE", "Page", "Report", "write"]
