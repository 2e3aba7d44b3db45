import { total, type Order } from '@acme/shared'
import { inEuros } from './util'

interface Event { orders: Order[] }

export const handler = async (event: Event): Promise<{ total: string }> => {
  return { total: inEuros(total(event.orders)) }
}
