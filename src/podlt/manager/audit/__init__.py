"""The audit: what `verify` cannot decide, decided by executing tasks again. docs/SPEC.md, section 6, claims 16 to 26.

For a third party that has the run (its directory, or a bundle with updates) and the data: it needs neither the workers
nor trust in the manager.
"""

from podlt.manager.audit.auditor import audit
from podlt.manager.audit.report import AuditReport, Fake, FalseConviction, Mismatch, NotAveraged
from podlt.manager.audit.tally import rounds_text

__all__ = ["AuditReport", "Fake", "FalseConviction", "Mismatch", "NotAveraged", "audit", "rounds_text"]
