"""What a request says and how it is answered: routes, bodies, parameters, schemas, keys, pages."""
