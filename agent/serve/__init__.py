"""`redraft serve`: conversations, pictures and runs over HTTP. `agent.serve.app.create_app` builds the app, and
`agent.serve.service.Service` is what all its doors share. docs/serving.md has the contract."""
