// An API with middy: the body is parsed before the handler, and what it throws becomes an answer after it.
import middy from '@middy/core'
import { executionModeStreamifyResponse } from '@middy/core/StreamifyResponse'
import errorHandler from '@middy/http-error-handler'
import jsonBodyParser from '@middy/http-json-body-parser'

async function createOrder (event, context, { signal }) {
  if (event.body.item === 'unknown') {
    throw Object.assign(new Error('no such item'), { statusCode: 404, expose: true })
  }
  if (event.body.item === 'broken') throw new Error('the database is gone')
  return {
    statusCode: 201,
    headers: { 'content-type': 'application/json', 'x-request-id': context.awsRequestId },
    body: JSON.stringify({ item: event.body.item, aborted: signal.aborted })
  }
}

export const handler = middy()
  .use(jsonBodyParser())
  .use(errorHandler({ fallbackMessage: 'sorry', logger: false }))
  .handler(createOrder)

export const stream = middy({ executionMode: executionModeStreamifyResponse }).handler(async () => ({
  statusCode: 200,
  headers: { 'content-type': 'text/csv' },
  body: 'id,item\n1,tea\n'
}))
