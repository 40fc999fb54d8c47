"""`redraft serve`: conversations, pictures and runs over HTTP, an OpenAI-compatible API, MCP, and the page.

    import uvicorn
    from agent.serve.app import create_app
    from agent.serve.settings import ServerSettings

    uvicorn.run(create_app(ServerSettings(profiles=("mini",))), port=8765)

`Service` (`agent.serve.service`) is what all doors share: it opens the models of each profile once. docs/serving.md has
the routes, the events and the limits.
"""
