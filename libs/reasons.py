"""The reasons that errors give: stable words that programs compare and people's texts are looked up by.

A reason is never renamed or reused. Each stands under the part that raises it; the ones at the top are common to all.
"""

from enum import StrEnum


class Reason(StrEnum):
    # Any part
    FIELD_INVALID = "FIELD_INVALID"  # fields break the rules of the proto; the violations say which
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"  # noqa: S105 - made by another list or another filter, or not by us
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"  # the same request_id came with another request
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    QUOTA = "QUOTA"  # more than was agreed or configured
    TOO_BUSY = "TOO_BUSY"
    DEADLINE = "DEADLINE"  # the call's time ran out
    CONFLICT = "CONFLICT"  # a concurrent change won, also after retries
    ETAG_STALE = "ETAG_STALE"
    WRONG_STATE = "WRONG_STATE"
    DEPENDENCY_AWAY = "DEPENDENCY_AWAY"  # another service, the store or the bus does not answer
    DEPENDENCY_SLOW = "DEPENDENCY_SLOW"  # another service did not answer in time
    SHUTTING_DOWN = "SHUTTING_DOWN"

    # Audit
    AUDIT_ENTRY_NOT_FOUND = "AUDIT_ENTRY_NOT_FOUND"
    DEAD_LETTER_NOT_FOUND = "DEAD_LETTER_NOT_FOUND"
    AUDIT_LOG_TORN = "AUDIT_LOG_TORN"  # entries or nodes of its tree are missing

    # Access
    TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105 - a word, not a secret
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105
    SESSION_ENDED = "SESSION_ENDED"  # signed out, disabled, or unknown
    NOT_PERMITTED = "NOT_PERMITTED"
    SERVICES_ONLY = "SERVICES_ONLY"  # the method is not for people
    PEERS_ONLY = "PEERS_ONLY"  # the method is for other nodes

    # Identity
    CREDENTIALS_WRONG = "CREDENTIALS_WRONG"
    LOGIN_LOCKED = "LOGIN_LOCKED"
    REFRESH_TOKEN_USED = "REFRESH_TOKEN_USED"  # noqa: S105
    PASSWORD_TOO_WEAK = "PASSWORD_TOO_WEAK"  # noqa: S105
    LOGIN_TAKEN = "LOGIN_TAKEN"
    ZONE_NOT_FOUND = "ZONE_NOT_FOUND"
    ZONE_CIRCLE = "ZONE_CIRCLE"
    ORGANISATION_NOT_FOUND = "ORGANISATION_NOT_FOUND"
    PERSON_NOT_FOUND = "PERSON_NOT_FOUND"
    ROLE_NOT_FOUND = "ROLE_NOT_FOUND"
    ROLE_BUILT_IN = "ROLE_BUILT_IN"
    ROLE_EXCEEDS_OWN = "ROLE_EXCEEDS_OWN"  # nobody gives a right that they do not hold
    SERVICE_ACCOUNT_NOT_FOUND = "SERVICE_ACCOUNT_NOT_FOUND"

    # Perception
    DEVICE_MODEL_NOT_FOUND = "DEVICE_MODEL_NOT_FOUND"
    DEVICE_NOT_FOUND = "DEVICE_NOT_FOUND"
    DEVICE_ID_TAKEN = "DEVICE_ID_TAKEN"
    METRIC_NOT_IN_MODEL = "METRIC_NOT_IN_MODEL"
    RULE_NOT_FOUND = "RULE_NOT_FOUND"
    WARNING_NOT_FOUND = "WARNING_NOT_FOUND"

    # Sharing
    PRODUCT_NOT_FOUND = "PRODUCT_NOT_FOUND"
    PRODUCT_NOT_OWN = "PRODUCT_NOT_OWN"  # a partner's product can only be read
    PRODUCT_VERSION_DIFFERS = "PRODUCT_VERSION_DIFFERS"
    FIELD_NOT_IN_PRODUCT = "FIELD_NOT_IN_PRODUCT"
    FIELD_NOT_IN_CONTRACT = "FIELD_NOT_IN_CONTRACT"
    FIELD_ABOVE_CLEARANCE = "FIELD_ABOVE_CLEARANCE"
    CONTRACT_NOT_ACTIVE = "CONTRACT_NOT_ACTIVE"
    PURPOSE_MISSING = "PURPOSE_MISSING"

    # Management
    EVENT_TYPE_NOT_FOUND = "EVENT_TYPE_NOT_FOUND"
    COMPONENT_TYPE_NOT_FOUND = "COMPONENT_TYPE_NOT_FOUND"
    EVENT_TYPE_RETIRED = "EVENT_TYPE_RETIRED"  # it takes no new reports
    EVENT_NOT_FOUND = "EVENT_NOT_FOUND"
    REPORT_NOT_FOUND = "REPORT_NOT_FOUND"
    MERGE_SUGGESTION_NOT_FOUND = "MERGE_SUGGESTION_NOT_FOUND"
    EXCEPTION_NOT_FOUND = "EXCEPTION_NOT_FOUND"
    EXCEPTION_PENDING = "EXCEPTION_PENDING"  # one of this kind waits for its decision already
    EVENT_SUSPENDED = "EVENT_SUSPENDED"
    REOPEN_WINDOW_OVER = "REOPEN_WINDOW_OVER"
    HISTORY_TOO_SHORT = "HISTORY_TOO_SHORT"  # for a forecast
    CALENDAR_NOT_FOUND = "CALENDAR_NOT_FOUND"
    LOOP_NOT_FOUND = "LOOP_NOT_FOUND"
    LOOP_SHIPPED = "LOOP_SHIPPED"  # it comes with the software and cannot be put
    TRANSITION_NOT_ALLOWED = "TRANSITION_NOT_ALLOWED"
    SUB_ORDER_OPEN = "SUB_ORDER_OPEN"
    ALREADY_ASSIGNED = "ALREADY_ASSIGNED"  # somebody else has taken the event
    NOT_ASSIGNED = "NOT_ASSIGNED"  # nobody has the event, or not the person named
    ASSIGNEE_NOT_ENTITLED = "ASSIGNEE_NOT_ENTITLED"  # who is to get the event may not handle it
    SAVED_FILTER_NOT_FOUND = "SAVED_FILTER_NOT_FOUND"
    EVIDENCE_MISSING = "EVIDENCE_MISSING"  # the step must show more
    EVIDENCE_NOT_FOUND = "EVIDENCE_NOT_FOUND"
    EVIDENCE_DAMAGED = "EVIDENCE_DAMAGED"  # what is kept is not what was uploaded
    UPLOAD_NOT_FOUND = "UPLOAD_NOT_FOUND"
    UPLOAD_CLOSED = "UPLOAD_CLOSED"  # it takes no more parts
    UPLOAD_INCOMPLETE = "UPLOAD_INCOMPLETE"  # parts are still to come
    FOLLOW_UP_NOT_FOUND = "FOLLOW_UP_NOT_FOUND"
    OWN_WORK = "OWN_WORK"  # nobody asks citizens about the work of their own organisation
    CASE_NOT_FOUND = "CASE_NOT_FOUND"
    ZONE_DELEGATED = "ZONE_DELEGATED"  # another node is authoritative there
    NOT_AUTHORITATIVE = "NOT_AUTHORITATIVE"  # another node handles this very event
    HANDOVER_NOT_FOUND = "HANDOVER_NOT_FOUND"
    HANDOVER_OPEN = "HANDOVER_OPEN"  # another hand-over of the event waits for an answer or a decision
    HANDOVER_DECIDED = "HANDOVER_DECIDED"  # an upper role said who of the two answers for the event
    TAKE_OVER_NOT_FOUND = "TAKE_OVER_NOT_FOUND"
    TAKE_OVER_OPEN = "TAKE_OVER_OPEN"  # the node that handles the event has been asked for it already
    TAKE_OVER_LAPSED = "TAKE_OVER_LAPSED"  # the asking came later than it could be answered
    TAKEN_OVER = "TAKEN_OVER"  # the event was another node's, which follows its reports: they stay together
    NOT_BELOW = "NOT_BELOW"  # the node that handles the event is not one below this one
    HISTORY_MISSING = "HISTORY_MISSING"  # this node was not told of all that befell another node's event
    WHISTLE_NOT_FOUND = "WHISTLE_NOT_FOUND"
    NOT_SUMMONED = "NOT_SUMMONED"  # the whistle does not call this organisation
    NOT_ON_SITE = "NOT_ON_SITE"  # too far from the place to report in there
    ALREADY_REPORTED = "ALREADY_REPORTED"  # somebody of the organisation is there
    INDICATOR_NOT_FOUND = "INDICATOR_NOT_FOUND"
    PUBLIC_WARNING_NOT_FOUND = "PUBLIC_WARNING_NOT_FOUND"
    APPROVAL_MISSING = "APPROVAL_MISSING"  # a second person has to approve it first
    RECEIPT_NOT_FOUND = "RECEIPT_NOT_FOUND"  # nobody asked this organisation or role to acknowledge it
    VISIT_NOT_FOUND = "VISIT_NOT_FOUND"
    CAP_MESSAGE_NOT_FOUND = "CAP_MESSAGE_NOT_FOUND"
    PLAN_NOT_FOUND = "PLAN_NOT_FOUND"
    PLAN_RUN_NOT_FOUND = "PLAN_RUN_NOT_FOUND"
    SCORECARD_DEFINITION_NOT_FOUND = "SCORECARD_DEFINITION_NOT_FOUND"
    SCORECARD_NOT_FOUND = "SCORECARD_NOT_FOUND"
    APPEAL_NOT_FOUND = "APPEAL_NOT_FOUND"
    APPEAL_WINDOW_OVER = "APPEAL_WINDOW_OVER"
    APPEAL_OWN = "APPEAL_OWN"  # nobody decides an appeal of their own organisation
    PLAN_RUN_EXISTS = "PLAN_RUN_EXISTS"  # the plan answers this warning already

    # Collaboration
    CHANNEL_NOT_FOUND = "CHANNEL_NOT_FOUND"
    MESSAGE_NOT_FOUND = "MESSAGE_NOT_FOUND"
    TASK_NOT_FOUND = "TASK_NOT_FOUND"
    NOTICE_NOT_FOUND = "NOTICE_NOT_FOUND"
    NOT_A_MEMBER = "NOT_A_MEMBER"

    # Delivery
    REQUEST_NOT_FOUND = "REQUEST_NOT_FOUND"
    SERVICE_ITEM_NOT_FOUND = "SERVICE_ITEM_NOT_FOUND"
    APPLICATION_NOT_FOUND = "APPLICATION_NOT_FOUND"
    CERTIFICATE_NOT_FOUND = "CERTIFICATE_NOT_FOUND"
    CERTIFICATE_REVOKED = "CERTIFICATE_REVOKED"
    ALREADY_RATED = "ALREADY_RATED"

    # Federation
    PEER_NOT_FOUND = "PEER_NOT_FOUND"
    PEER_AWAY = "PEER_AWAY"
    STILL_FAILS = "STILL_FAILS"  # tried again, with the same end
    PEER_SUSPENDED = "PEER_SUSPENDED"
    CERTIFICATE_ENDED = "CERTIFICATE_ENDED"  # of a peer: expired, revoked, or not of this node's making
    PEER_ENDED = "PEER_ENDED"  # the membership is over, or was never granted
    JOIN_TOKEN_INVALID = "JOIN_TOKEN_INVALID"  # noqa: S105
    JOIN_REJECTED = "JOIN_REJECTED"
    APPROVAL_BY_SAME = "APPROVAL_BY_SAME"  # one person cannot be two of those who approve
    APPROVAL_BY_PERSON = "APPROVAL_BY_PERSON"  # a program cannot compare a fingerprint out of band
    FINGERPRINT_DIFFERS = "FINGERPRINT_DIFFERS"
    CONTRACT_NOT_FOUND = "CONTRACT_NOT_FOUND"
    DIRECTIVE_NOT_FOUND = "DIRECTIVE_NOT_FOUND"
    DIRECTIVE_NOT_OURS = "DIRECTIVE_NOT_OURS"  # another node gave it, or has to act upon it
    TRANSFER_NOT_FOUND = "TRANSFER_NOT_FOUND"
    TERMS_NOT_UNDERSTOOD = "TERMS_NOT_UNDERSTOOD"  # they hold what this release does not know
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    TRUST_LIST_DIFFERS = "TRUST_LIST_DIFFERS"  # the database says something else than the node has signed
    TRUST_ROLLBACK = "TRUST_ROLLBACK"  # a trust list that is older than the one that is known
    SEQUENCE_GAP = "SEQUENCE_GAP"

    # Audit
    AUDIT_BROKEN = "AUDIT_BROKEN"
