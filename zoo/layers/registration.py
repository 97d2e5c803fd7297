"""Names under which saved models find the layers of the zoo: `zoo>Name`."""

from custom_ops.registration import registrar

register = registrar("zoo")
