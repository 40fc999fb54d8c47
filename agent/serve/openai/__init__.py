"""The OpenAI Images and Chat Completions APIs at /v1; docs/serving.md says what differs. Only here, and only in bodies,
what the user wrote is called `prompt`, as in OpenAI's APIs.

    app.include_router(agent.serve.openai.routes.router(service))
"""
