from greenloop.dropin import install_as_gevent
