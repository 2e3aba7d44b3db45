// A durable function: its steps are kept by Lambda, and it does not run while it waits.
import { withDurableExecution } from '@aws/durable-execution-sdk-js'

export const handler = withDurableExecution(async (event, context) => {
  const order = await context.step('reserve', async () => {
    console.log(`reserving ${event.item}`)
    return { item: event.item, reserved: true }
  })
  await context.wait('cool', { seconds: 5 })
  return context.step('ship', async () => ({ ...order, shipped: true }))
})
