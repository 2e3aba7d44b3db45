// An API with Hono, once with answers in one piece, once streamed.
import { Hono } from 'hono'
import { handle, streamHandle } from 'hono/aws-lambda'
import { setCookie } from 'hono/cookie'
import { streamText } from 'hono/streaming'

const app = new Hono()

app.get('/orders/:id', c => {
  setCookie(c, 'first', '1')
  setCookie(c, 'second', '2')
  return c.json({
    id: c.req.param('id'),
    colours: c.req.queries('colour'),
    agent: c.req.header('user-agent'),
    requestID: c.env.lambdaContext.awsRequestId
  })
})

app.post('/echo', async c => {
  const body = await c.req.arrayBuffer()
  return c.body(body, 200, { 'content-type': 'image/png' })
})

app.get('/ticks', c => {
  c.header('x-ticks', '3')
  return streamText(c, async stream => {
    for (const tick of ['one ', 'two ', 'drei ü']) await stream.write(tick)
  })
})

app.get('/broken', () => { throw new Error('the database is gone') })

app.onError((error, c) => c.text(error.message, 500))

export const handler = handle(app)
export const stream = streamHandle(app)
