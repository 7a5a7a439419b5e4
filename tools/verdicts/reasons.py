"""Why a verdict differs from a judge's: one sentence that an operator accepts."""

BODY = "HAProxy's check looks at the head alone; a body that breaks off is broken for every user"
ONE_REFUSES = "one judge refuses it, so some clients of the origin would: down"
INTERIM = "HAProxy's check takes the interim status for the final one; as a proxy it passes it on"

REASONS = {
    "20,000 empty DATA": "the judges read on as long as it lasts; what one probe may cost has a bound",
    "compressed, it says": "gRPC's protocol has the flag 0 where no grpc-encoding is named; its Python client does not look",
    "chunk cut short": BODY,
    "body cut short": BODY,
    "100 then 200": INTERIM,
    "103 then 200": INTERIM,
    "20 interim": INTERIM,
    "verified: another name": "HAProxy looks at the common name too; where a certificate has alternative names, they alone count",
}


GRPC = "HAProxy's check sees the head alone, and gRPC says how a call ended after it"


def reason_for(group, name, up, judges):
    """The reason for a case in which a judge says otherwise; empty if there is none."""
    if group == "gRPC" and not up and judges == [True, False, False]:
        return GRPC
    if name in REASONS:
        return REASONS[name]
    # The rule of the whole table: up is what both HAProxy and curl accept.
    return ONE_REFUSES if not up and not all(judges) else ""
