"""The ledger's words for those who buy through the gateway and may not know the ledger."""

from apps.ledger.types import Charge, OperationKind, TokenCounts, TokenSource, TokenType

__all__ = ["Charge", "OperationKind", "TokenCounts", "TokenSource", "TokenType"]
