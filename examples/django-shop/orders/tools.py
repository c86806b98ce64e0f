"""The shop's tools, for the assistant and for MCP clients."""

from orders.models import Order
from support.context import RequestContext
from support.tools import ToolError, tool


@tool(title="Look at your orders", read_only=True)
def list_orders(context: RequestContext) -> list[dict]:
    """List the user's last 20 orders, the newest first."""
    orders = Order.objects.filter(user_id=context.user_id).order_by("-id")[:20]
    return [{"id": order.id, "item": order.item, "created_at": order.created_at} for order in orders]


@tool(title="Place an order", scope="orders:write")
def place_order(context: RequestContext, item: str) -> str:
    """Order something for the user.

    Args:
        item: What the user wants, in a few words.
    """
    order = Order.objects.create(user_id=context.user_id, item=item[:200])
    return f"Ordered. The number of the order is {order.id}."


@tool(title="Cancel an order", scope="orders:write", needs_approval=True)
def cancel_order(context: RequestContext, order_id: int) -> str:
    """Cancel one of the user's orders. This cannot be undone."""
    deleted, _ = Order.objects.filter(user_id=context.user_id, id=order_id).delete()
    if not deleted:
        raise ToolError("The user has no order with this number.")
    return "Cancelled."


TOOLS = [list_orders, place_order, cancel_order]
