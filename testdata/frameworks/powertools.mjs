// Logs, metrics and traces with Powertools for AWS Lambda.
import { Logger } from '@aws-lambda-powertools/logger'
import { injectLambdaContext } from '@aws-lambda-powertools/logger/middleware'
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import { logMetrics } from '@aws-lambda-powertools/metrics/middleware'
import { Tracer } from '@aws-lambda-powertools/tracer'
import { captureLambdaHandler } from '@aws-lambda-powertools/tracer/middleware'
import middy from '@middy/core'

const logger = new Logger()
const metrics = new Metrics()
const tracer = new Tracer()

export const handler = middy()
  .use(captureLambdaHandler(tracer))
  .use(injectLambdaContext(logger))
  .use(logMetrics(metrics, { captureColdStartMetric: true }))
  .handler(async event => {
    tracer.putAnnotation('item', event.item)
    metrics.addMetric('ordersCreated', MetricUnit.Count, 1)
    logger.info('order created', { item: event.item })
    if (event.item === 'broken') {
      const error = new Error('the database is gone')
      logger.error('order failed', error)
      throw error
    }
    return { traced: tracer.isTracingEnabled(), root: tracer.getRootXrayTraceId() }
  })
