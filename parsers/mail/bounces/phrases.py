"""Words of bounces that are no reports: where the returned mail begins, what was done, and why.

Each tuple holds alternatives of one regular expression.
"""

import re

# Lines behind which a bounce shows the mail it is about.
RETURNED = (
    r"[-_=* ]*this is a copy of (?:the|your) (?:message|mail|headers)",
    r"[-_=* ]*(?:below this line|below) is a copy of the",
    r"[-_=* ]*message headers? follows?",
    r"[-_=* ]+(?:the )?(?:original|returned|unsent|undelivered) (?:message|mail)",
    r"[-_=* ]+(?:the )?(?:message )?header\b",
    (
        r"(?:the )?(?:original|returned|unsent|undelivered) (?:message|mail)"
        r"(?: text| headers?)?(?: follows?)?\s*[:.-]"
    ),
    r"(?:the )?(?:original )?(?:message|mail) headers? (?:follows?|are|is)\b",
    (
        r"(?:here|following|included|attached|below) is (?:a copy of|your|the) .{0,40}"
        r"(?:message|mail|headers?)"
    ),
)

# Words for the actions of RFC 3464 §2.3.3; a notice with none of them is about a failure.
FAILED = (
    r"permanent error",
    r"(?:i've|have) given up|giving up",
    r"failed permanently|permanently failed",
    r"not going to try again",
    r"(?:will not|won't) be (?:re-?)?tried",
    r"no further (?:delivery )?attempts",
)
DELAYED = (
    (
        r"(?:has|have|was|could) (?:not|n't) (?:yet )?(?:be |been )?"
        r"(?:successfully )?delivered (?:yet|for (?:the|more))"
    ),
    r"not yet (?:been )?(?:successfully )?(?:delivered|able)",
    r"could not send (?:the )?message for (?:the )?past",
    (
        r"(?:still|will|we'?ll) (?:be |being |continue |keep |to )*"
        r"(?:try|tries|retry|retried|retrying|trying|attempted)\b"
    ),
    r"delivery (?:attempts? )?will (?:be retried|continue|keep)",
    r"(?:warning message only|temporary failure report)",
    r"(?:do|need) not (?:need to )?re-?send",
    r"no (?:further )?action is (?:currently )?required",
    r"delivery incomplete",
    r"(?:message|mail|delivery)[^.\n]{0,60}\b(?:is|has been|was|been) delayed",
    r"(?:delivery|mail|message) delayed",
    r"\(delay\)",
    r"there was a temporary problem (?:while )?deliver",
    r"wird (?:weiterhin|erneut) versucht",
    r"verzögert",
    r"retardée?",
    r"配信が遅れて",
    r"再送を試み",
)
DELIVERED = (
    r"(?:was|has been|been) successfully (?:delivered|relayed)",
    r"delivery (?:to .{0,80} )?was successful",
    r"successful mail delivery",
    r"\((?:success|relay)\)",
)

# Last two numbers of a status (RFC 3463 §3) -> words that mean it. The order decides where several
# match: words that leave less room for doubt come first.
REASONS = {
    "2.2": (  # full, or over its quota
        r"(?:mail)?box (?:is |has )?(?:full|exceed|over)",
        r"(?:over|exceed\w*|out of|above)[^.\n]{0,40}\b(?:quota|disk space)",
        r"quota (?:is |has been |was )?(?:exceed|full|reach)",
        r"mailfolder is full",
        r"(?:insufficient|not enough) (?:system |disk )?(?:storage|space)",
        r"(?:storage|disk) (?:is )?(?:full|quota|space exceeded)",
        r"(?:mailbox|account) size limit",
        r"user (?:is over|has exhausted|has too many messages)",
        r"postfach (?:ist )?voll|speicherplatz",
        r"容量",
    ),
    "3.4": (  # too large
        (
            r"(?:message|mail|size)[^.\n]{0,50}\b"
            r"(?:too (?:large|big)|exceed\w* (?:the )?(?:maxim|fixed|size|limit|allow))"
        ),
        r"(?:maximum|max) (?:message )?size exceed",
        r"size limit exceed",
    ),
    "7.25": (  # no reverse name (RFC 7372)
        r"\bptr record",
        r"reverse dns",
    ),
    "7.23": (r"\bspf\b",),  # SPF (RFC 7372)
    "7.26": (r"\bdmarc\b",),  # several of SPF, DKIM, DMARC (RFC 7372)
    "7.20": (r"\bdkim\b",),  # DKIM (RFC 7372)
    "1.10": (  # a domain without mail (RFC 7505)
        r"null mx",
        r"indicated no smtp service",
    ),
    "4.4": (  # no route
        r"unable to route",
        r"(?:no|could not find a) (?:route|gateway) (?:to|for)",
        r"(?:all )?relevant mx records",
        r"bad dns",
    ),
    "1.2": (  # no such domain
        (
            r"(?:host|domain)(?: name)?(?: or domain)?(?: [\w.-]{1,80})? (?:is )?"
            r"(?:not (?:be )?found|unknown)"
        ),
        r"(?:unknown|no such|invalid|bad|nonexistent) (?:host|domain)",
        r"(?:could|can) ?n[o']t find (?:any|a) (?:host|mx|mail exchang)",
        r"name service error",
        r"name or service not known",
        r"(?:dns|domain|host|name)(?: name)? lookup (?:fail|error|did)",
        r"unroute?able mail domain",
        r"domain (?:name )?(?:does not|doesn't) (?:exist|resolve)",
        r"nxdomain",
        r"no (?:mx|mail exchanger)",
    ),
    "4.6": (  # a loop
        r"(?:routing|mail|forwarding) loop",
        r"loops? back",
        r"too many (?:hops|received)",
        r"hop count (?:limit )?exceed",
        r"loop detected",
    ),
    "4.7": (  # tried too long
        (
            r"(?:retry|delivery|queue|message) (?:time|lifetime|period)?[^.\n]{0,40}"
            r"(?:exceeded|expired|timed? ?out)"
        ),
        r"too long in (?:the )?queue",
        r"in (?:the )?queue too long",
        r"unable to deliver .{0,30}after \d",
        r"could not be delivered for \d",
        r"(?:message|delivery|mail) expired",
        r"undelivered after",
        r"aborted after \d",
        r"failed \d+ (?:attempts|times)",
        r"failing for a long time",
    ),
    "4.1": (  # no connection
        r"connection (?:refused|reset|timed? ?out|failed|dropped|lost)",
        r"(?:operation )?timed? ?out",
        r"(?:no answer|not responding|unreachable|socket error|network error)",
        r"could(?:n't| not) (?:connect|establish)",
        r"unable to (?:connect|establish)",
        r"did not accept our requests? to connect",
        r"not accepting connections",
    ),
    "2.1": (  # closed to mail
        (
            r"(?:mailbox|account|user|address|recipient)[^.\n]{0,60}\b"
            r"(?:disabled|inactive|suspended|deactivated|expired|locked)"
        ),
        (
            r"(?:mailbox|account|user|address|recipient)[^.\n]{0,60}\b"
            r"(?:discontinued|terminated|not active|closed)"
        ),
        r"(?:disabled|inactive|suspended) (?:user|account|mailbox|recipient)",
        r"no longer (?:active|in use|valid|available)",
        r"not accepting (?:mail|messages)",
        r"(?:mailbox|account|user) (?:is )?(?:currently )?(?:unavailable|not available)",
    ),
    "1.3": (  # no address
        (
            r"(?:bad|invalid|malformed|illegal) (?:address|mailbox|recipient|e-?mail)? ?"
            r"(?:syntax|format)"
        ),
        r"syntax error in",
        r"address syntax",
        r"not a valid (?:rfc|e-?mail|address)",
    ),
    "1.1": (  # unknown
        (
            r"(?:unknown|invalid|no such|non-?existent|bad|unrecogni[sz]ed) "
            r"(?:local |virtual )?(?:user|recipient|mailbox)"
        ),
        (
            r"(?:unknown|invalid|no such|undeliverable|unresolvable) "
            r"(?:account|person|local[- ]part|destination|address)"
        ),
        (
            r"(?:user|recipient|mailbox|address|account|person)s? \S{0,100} ?"
            r"(?:is |was |are )?(?:unknown|unrecogni[sz]ed)"
        ),
        (
            r"(?:user|recipient|mailbox|address|account|person)[^.\n]{0,60}\b(?:not|n't) "
            r"(?:be )?(?:found|exist)"
        ),
        (
            r"(?:user|recipient|mailbox|address|account|name)s?[^.\n]{0,60}\bnot "
            r"(?:listed|known|valid|recogni[sz]ed)"
        ),
        (
            r"(?:does not|doesn't|do not|not) "
            r"(?:have an account|a (?:known|valid|local) (?:user|recipient))"
        ),
        (
            r"no (?:mailbox|account|user|valid recipient|recipient)s?\b[^.\n]{0,40}"
            r"(?:here|by that|name|found|such|for)"
        ),
        r"not (?:listed|found) in",
        r"not our customer",
        r"can'?not be found",
        r"unroute?able address",
        r"(?:address|recipient) (?:was )?rejected: (?:undeliverable|unverified|user)",
        r"email address is possibly incorrect",
        r"ist (?:hier )?unbekannt|existiert nicht",
        r"n'existe pas|no existe|non esiste|não existe",
        r"нет такого|не существует",
        r"存在しない|宛先(?:不明|が見つかり)|見つかりません",
        r"不存在",
    ),
    "7.2": (  # no right to post
        r"permissions? to post",
        r"not (?:allowed|permitted|authori[sz]ed) to (?:post|send (?:messages? )?to)",
    ),
    "7.1": (  # refused
        r"relay(?:ing)? (?:access )?(?:denied|not (?:permitted|allowed)|prohibited)",
        r"(?:not permitted|unable|refus\w+) to relay",
        (
            r"(?:access|permission|sender|client|policy|authenti\w+|verification)[^.\n]{0,40}"
            r"(?:denied|fail|requir)"
        ),
        r"(?:blocked|black ?list|block ?list|listed (?:at|in|by|on) )",
        r"(?:\bspam\b|reputation|not authori[sz]ed|\bvirus|content filter)",
        r"(?:rejected|refused|denied|forbidden|prohibited)\b",
        r"(?:does not like recipient|violat|not accepted)",
    ),
}


def _compile_any(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


RETURNED_PATTERN = re.compile(rf"^(?:{'|'.join(RETURNED)})", re.IGNORECASE | re.MULTILINE)
ACTION_PATTERNS = {
    "failed": _compile_any(FAILED),
    "delivered": _compile_any(DELIVERED),
    "delayed": _compile_any(DELAYED),
}
REASON_PATTERNS = {status: _compile_any(words) for status, words in REASONS.items()}
