// An API with Fastify, once with answers in one piece, once streamed as @fastify/aws-lambda's page does it.
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import awsLambdaFastify from '@fastify/aws-lambda'
import fastify from 'fastify'

function newApp () {
  const app = fastify()

  app.get('/orders/:id', async request => ({
    id: request.params.id,
    colours: request.query.colour,
    requestID: request.awsLambda.context.awsRequestId
  }))

  app.post('/orders', {
    schema: { body: { type: 'object', required: ['item'], properties: { item: { type: 'string' } } } }
  }, async (request, reply) => reply.code(201).send({ created: request.body.item }))

  app.get('/ticks', async (request, reply) => {
    reply.type('text/plain').header('x-ticks', '3')
    return reply.send(Readable.from(['one ', 'two ', 'drei ü']))
  })

  return app
}

// An app can be given to awsLambdaFastify once.
const whole = newApp()
const streamed = newApp()

export const handler = awsLambdaFastify(whole)
const streamable = awsLambdaFastify(streamed, { payloadAsStream: true })

export const stream = awslambda.streamifyResponse(async (event, responseStream, context) => {
  const { meta, stream } = await streamable(event, context)
  await pipeline(stream, awslambda.HttpResponseStream.from(responseStream, meta))
})

await whole.ready()
await streamed.ready()
